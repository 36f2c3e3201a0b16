/* SPDX-License-Identifier: Apache-2.0 */
/* Inner packets: IPv4 or IPv6 as the host sends and receives them. Pure functions on pointers. */
#ifndef VEIL_INNER_H
#define VEIL_INNER_H

#include "contract.h"
#include "outer.h"

#define VEIL_PROTO4 VEIL_BE16(0x0800)
#define VEIL_PROTO6 VEIL_BE16(0x86dd)
#define VEIL_MAPPED4 0xffff0000U /* 00 00 ff ff */
#define VEIL_IP4_SRC 12
#define VEIL_IP4_DST 16
#define VEIL_IP6_SRC 8
#define VEIL_IP6_DST 24

/* Length of the IP packet at `ip` as its header has it, 0 if that header is cut short or not well formed. With a result
 * the 20 (IPv4) or 40 (IPv6) bytes of fixed header lie before `end`; the rest need not. */
static __always_inline __u32 veil_inner_len(const __u8 *ip, const void *end)
{
	if ((void *)(ip + VEIL_IP4_LEN) > end)
		return 0;
	if (ip[0] >> 4 == 4) {
		__u32 header = (ip[0] & 15) * 4, len = __builtin_bswap16(*(const __be16 *)(ip + 2));

		return header >= VEIL_IP4_LEN && len >= header ? len : 0;
	}
	if (ip[0] >> 4 != 6 || (void *)(ip + VEIL_IP6_LEN) > end)
		return 0;
	return VEIL_IP6_LEN + __builtin_bswap16(*(const __be16 *)(ip + 4));
}

/* Look-up key of the address at `at4` (IPv4) or `at6` (IPv6) of the packet's header: 1, or 0 if that lies outside or an
 * IPv6 packet has an IPv4-mapped address, which would be some IPv4 node's key (none is legal on a wire, RFC 4038 4.2). */
static __always_inline int veil_inner_key(const __u8 *ip, const void *end, int at4, int at6, struct veil_route_key *key)
{
	__u32 *addr = (__u32 *)key->addr;

	if ((void *)(ip + VEIL_IP4_LEN) > end)
		return 0;
	key->prefixlen = 128;
	if (ip[0] >> 4 == 4) { /* ::ffff:a.b.c.d */
		addr[0] = 0;
		addr[1] = 0;
		addr[2] = VEIL_MAPPED4;
		addr[3] = *(const __u32 *)(ip + at4);
		return 1;
	}
	if ((void *)(ip + VEIL_IP6_LEN) > end)
		return 0;
#pragma unroll
	for (int i = 0; i < 4; i++)
		addr[i] = ((const __u32 *)(ip + at6))[i];
	return addr[0] || addr[1] || addr[2] != VEIL_MAPPED4;
}

/* The same address in the table of networks, under `scope`. */
static __always_inline void veil_network_key(struct veil_network_key *key, __u32 scope, const struct veil_route_key *addr)
{
	key->prefixlen = VEIL_NETWORK_SCOPE_BITS + 128;
	key->scope = scope;
	__builtin_memcpy(key->addr, addr->addr, sizeof(key->addr));
}

/* Ethernet protocol of the packet at `ip`, whose first byte has been read before. */
static __always_inline __be16 veil_inner_proto(const __u8 *ip)
{
	return ip[0] >> 4 == 4 ? VEIL_PROTO4 : VEIL_PROTO6;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Outer headers: Ethernet, IPv4, UDP, in that order, 42 bytes, written whole. Pure functions on pointers; the caller has
 * checked the packet's bounds and looked the maps up. Needs contract.h and linux/bpf.h first. */
#ifndef VEIL_OUTER_H
#define VEIL_OUTER_H

#include "contract.h"

#define VEIL_OUTER_LEN (VEIL_ETH_LEN + VEIL_OUTER4_LEN) /* 42 */
#define VEIL_TTL 64
#define VEIL_AF_INET 2
#define VEIL_PROTO_UDP 17

/* Offsets, and whole words at them: a packed structure would make the compiler access single bytes. */
#define VEIL_OFF_PROTO 12
#define VEIL_OFF_IP VEIL_ETH_LEN
#define VEIL_OFF_UDP (VEIL_ETH_LEN + VEIL_IP4_LEN)

struct veil_ip4 { /* at VEIL_OFF_IP, with the UDP header that follows */
	__u8 ver_ihl;
	__u8 tos;
	__be16 len;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 proto;
	__u16 sum;
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__be16 udp_len;
	__u16 udp_sum;
};

_Static_assert(sizeof(struct veil_ip4) == VEIL_OUTER4_LEN, "veil_ip4");

#define VEIL_BE16(x) ((__be16)__builtin_bswap16(x))
#define VEIL_PROTO_IP4 VEIL_BE16(0x0800)
#define VEIL_VER_TOS VEIL_BE16(0x4500)		       /* IPv4, 20 bytes, TOS 0 */
#define VEIL_DF VEIL_BE16(0x4000)		       /* never fragment: paths measure their MTU */
#define VEIL_TTL_PROTO VEIL_BE16(VEIL_TTL << 8 | VEIL_PROTO_UDP)

static __always_inline __be32 veil_addr4(const __u8 *addr)
{
	return *(const __be32 *)addr;
}

/* IPv4 header checksum (RFC 1071) of the one header this file writes; the sum is the same in either byte order. */
static __always_inline __u16 veil_ip_sum(__be16 ip_len, __be32 saddr, __be32 daddr)
{
	__u64 sum = (__u64)VEIL_VER_TOS + VEIL_DF + VEIL_TTL_PROTO + ip_len;

	sum += (saddr & 0xffff) + (saddr >> 16);
	sum += (daddr & 0xffff) + (daddr >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Write the 42 bytes at `out` for a frame of `payload` bytes of UDP payload. The UDP checksum is 0 (RFC 768: none):
 * the frame authenticates itself. */
static __always_inline void veil_outer_write(void *out, const struct veil_addrs *addrs, const struct veil_l2 *l2,
					     __u32 payload)
{
	__be32 saddr = veil_addr4(addrs->local), daddr = veil_addr4(addrs->remote);
	__u64 ip_len = VEIL_BE16(payload + VEIL_OUTER4_LEN), udp_len = VEIL_BE16(payload + VEIL_UDP_LEN);
	__u64 ports = (__u64)addrs->rport << 16 | addrs->lport;

	*(__u64 *)out = *(const __u64 *)l2->dmac; /* dmac and the first two bytes of smac */
	*(__u32 *)(out + 8) = *(const __u32 *)(l2->smac + 2);
	*(__be16 *)(out + VEIL_OFF_PROTO) = VEIL_PROTO_IP4;
	*(__u64 *)(out + VEIL_OFF_IP) = (__u64)VEIL_DF << 48 | ip_len << 16 | VEIL_VER_TOS;
	*(__u32 *)(out + VEIL_OFF_IP + 8) = (__u32)veil_ip_sum(ip_len, saddr, daddr) << 16 | VEIL_TTL_PROTO;
	*(__u64 *)(out + VEIL_OFF_IP + 12) = (__u64)daddr << 32 | saddr;
	*(__u64 *)(out + VEIL_OFF_UDP) = udp_len << 32 | ports;
}

/* True while the cached next hop needs no look-up. `now` is bpf_jiffies64(). */
static __always_inline int veil_l2_fresh(const struct veil_l2 *l2, __u64 now)
{
	return l2->stamp && (__s64)(now - l2->stamp) < VEIL_L2_REFRESH_JIFFIES;
}

/* Ask the kernel's FIB and neighbour table for the next hop of `addrs`, starting at `fib_ifindex` (a device with
 * forwarding on: bpf_fib_lookup refuses others). A failed look-up keeps what is cached and counts as its refresh, so a
 * neighbour entry that expires under load does not cost a look-up per frame. A next hop behind veil0 counts as failed:
 * frames must not enter the overlay themselves. 0, or the reason why there is no next hop. */
static __always_inline __u32 veil_l2_lookup(void *ctx, struct veil_l2 *l2, const struct veil_addrs *addrs,
					    const struct veil_config *cfg, __u64 now)
{
	struct bpf_fib_lookup fib = {.family = VEIL_AF_INET, .l4_protocol = VEIL_PROTO_UDP};
	long err;

	fib.ifindex = cfg->fib_ifindex;
	fib.ipv4_src = veil_addr4(addrs->local);
	fib.ipv4_dst = veil_addr4(addrs->remote);
	fib.sport = addrs->lport;
	fib.dport = addrs->rport;
	err = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (cfg->veil0_ifindex && fib.ifindex == cfg->veil0_ifindex) { /* it is set without a neighbour, too */
		if (!l2->stamp)
			return VEIL_DROP_LOOP;
		err = 1;
	}
	if (err && !l2->stamp)
		return err == BPF_FIB_LKUP_RET_NO_NEIGH ? VEIL_DROP_NO_NEIGH : VEIL_DROP_NO_ROUTE;
	if (!err) {
		__builtin_memcpy(l2->dmac, fib.dmac, 6);
		__builtin_memcpy(l2->smac, fib.smac, 6);
		l2->ifindex = fib.ifindex;
	}
	l2->stamp = now; /* last: marks the entry as filled */
	return 0;
}

/* The next hop of `addrs` in `l2`, looked up again when it is old. 0, or the reason why there is none. */
static __always_inline __u32 veil_l2_ready(void *ctx, struct veil_l2 *l2, const struct veil_addrs *addrs,
					   const struct veil_config *cfg, __u64 now)
{
	if (veil_l2_fresh(l2, now))
		return 0;
	return veil_l2_lookup(ctx, l2, addrs, cfg, now);
}

#endif

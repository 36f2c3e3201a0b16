/* SPDX-License-Identifier: Apache-2.0 */
/* Outer headers of a received packet: is it a UDP datagram that could be a frame, and whose is it? */
#ifndef VEIL_PARSE_H
#define VEIL_PARSE_H

#include "contract.h"
#include "outer.h"

#define VEIL_FRAG_MASK VEIL_BE16(0x3fff) /* more fragments, offset */

struct veil_flow {
	struct veil_link_way way; /* sender and receiver; link is 0, so this is also the key of links_wide */
	__u32 payload;		  /* bytes of UDP payload, >= VEIL_FRAME_MIN once parsed */
	__u32 spare;		  /* bytes behind the IP packet: Ethernet padding */
};

/* What the Ethernet and IPv4 headers say: 0 for a whole UDP datagram, else the reason to leave the packet alone. */
static __always_inline __u32 veil_parse_ip(const void *data, const void *end)
{
	const struct veil_ip4 *ip = data + VEIL_OFF_IP;

	if (data + VEIL_ETH_LEN > end)
		return VEIL_PASS_TRUNCATED;
	if (*(const __be16 *)(data + VEIL_OFF_PROTO) != VEIL_PROTO_IP4)
		return VEIL_PASS_NOT_IP;
	if (data + VEIL_ETH_LEN + VEIL_IP4_LEN > end)
		return VEIL_PASS_TRUNCATED;
	if (ip->ver_ihl != 0x45) {
		if (ip->ver_ihl >> 4 != 4)
			return VEIL_PASS_NOT_IP;
		return (ip->ver_ihl & 15) > 5 ? VEIL_PASS_IP_OPTIONS : VEIL_PASS_TRUNCATED;
	}
	if (ip->proto != VEIL_PROTO_UDP)
		return VEIL_PASS_NOT_UDP;
	if (ip->frag & VEIL_FRAG_MASK)
		return VEIL_PASS_FRAGMENT;
	return 0;
}

/* Parse the packet into `flow`: 0 and VEIL_OUTER_LEN + VEIL_FRAME_MIN readable bytes, or the reason to leave it alone.
 * Bytes after the IP packet (Ethernet padding) are tolerated; a UDP length that disagrees with IP's is not. */
static __always_inline __u32 veil_parse(const void *data, const void *end, struct veil_flow *flow)
{
	const struct veil_ip4 *ip = data + VEIL_OFF_IP;
	__u32 reason = veil_parse_ip(data, end), ip_len, room;

	if (reason)
		return reason;
	if (data + VEIL_OUTER_LEN + VEIL_FRAME_MIN > end)
		return VEIL_PASS_TRUNCATED;
	ip_len = __builtin_bswap16(ip->len);
	room = end - data - VEIL_ETH_LEN;
	if (ip_len < VEIL_OUTER4_LEN + VEIL_FRAME_MIN || ip_len > room)
		return VEIL_PASS_TRUNCATED;
	if (__builtin_bswap16(ip->udp_len) != ip_len - VEIL_IP4_LEN)
		return VEIL_PASS_TRUNCATED;
	*(__u64 *)&flow->way.remote = *(const __u64 *)&ip->saddr; /* saddr, daddr */
	*(__u32 *)&flow->way.rport = *(const __u32 *)&ip->sport;  /* sport, dport */
	flow->way.link = 0;
	flow->payload = ip_len - VEIL_OUTER4_LEN;
	flow->spare = room - ip_len;
	return 0;
}

/* Bucket of a 5-tuple; keyd computes the same when it inserts. Integers as a little-endian CPU loads the fields. */
static __always_inline __u32 veil_bucket_index(const struct veil_link_way *way, __u64 seed)
{
	__u64 x = ((__u64)way->remote << 32 | way->local) ^ seed;

	x += ((__u64)way->rport << 16 | way->lport) * 0x9E3779B97F4A7C15ULL;
	x ^= x >> 32;
	x *= 0xD6E8FEB86659FD93ULL;
	x ^= x >> 32;
	return x & (VEIL_LINK_BUCKETS - 1);
}

/* Link of `key` in its bucket, 0 if it is not there. `*full` tells whether all ways are in use: only then can the link
 * be in links_wide. */
static __always_inline __u32 veil_bucket_find(const struct veil_link_bucket *bucket, const struct veil_link_way *key,
					      __u32 *full)
{
	__u64 addrs = *(const __u64 *)&key->remote; /* remote and local, then both ports, each compared at once */
	__u32 ports = *(const __u32 *)&key->rport;

	*full = 1;
#pragma unroll
	for (int i = 0; i < VEIL_BUCKET_WAYS; i++) {
		const struct veil_link_way *way = &bucket->way[i];
		__u32 link = *(volatile const __u32 *)&way->link;

		if (*(const __u64 *)&way->remote == addrs && *(const __u32 *)&way->rport == ports && link)
			return link;
		if (!link)
			*full = 0;
	}
	return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and rewriting an IPv4 packet in an skb, by helpers: the stack may hand over paged and GSO buffers, and
 * checksums that the device would have finished. No map calls here.
 */
#ifndef VEIL_NAT_PACKET_H
#define VEIL_NAT_PACKET_H

#define NAT_ETH 14
#define NAT_UDP 17
#define NAT_ICMP 1
#define NAT_FRAGMENT_OFFSET 0x1fff
#define NAT_MORE_FRAGMENTS 0x2000

struct nat_ip {
	__u8 version_ihl, tos;
	__be16 length, id, fragment;
	__u8 ttl, proto;
	__be16 checksum;
	__be32 source, destination;
};

struct nat_l4 { /* the first 8 bytes: UDP's whole header, or ICMP's */
	union {
		struct {
			__be16 source, destination, length, checksum;
		} udp;
		struct {
			__u8 type, code;
			__be16 checksum, id, sequence;
		} icmp;
	};
};

struct nat_packet {
	struct nat_ip ip;
	struct nat_l4 l4; /* unset in later fragments */
	__u32 at;	  /* offset of l4 */
};

struct nat_quote { /* what an ICMP error quotes */
	struct nat_ip ip;
	struct nat_l4 l4;
};

static __always_inline int nat_later_fragment(const struct nat_ip *ip)
{
	return (bpf_ntohs(ip->fragment) & NAT_FRAGMENT_OFFSET) != 0;
}

static __always_inline int nat_first_fragment(const struct nat_ip *ip)
{
	return !nat_later_fragment(ip) && (bpf_ntohs(ip->fragment) & NAT_MORE_FRAGMENTS);
}

/* 0, or -1 if there is less than the headers say; l4 is read for UDP and ICMP only */
static __always_inline int nat_read(struct __sk_buff *skb, struct nat_packet *p)
{
	if (bpf_skb_load_bytes(skb, NAT_ETH, &p->ip, sizeof(p->ip)) || p->ip.version_ihl >> 4 != 4)
		return -1;
	p->at = NAT_ETH + (p->ip.version_ihl & 15) * 4;
	if ((p->ip.proto != NAT_UDP && p->ip.proto != NAT_ICMP) || nat_later_fragment(&p->ip))
		return 0;
	return bpf_skb_load_bytes(skb, p->at, &p->l4, sizeof(p->l4)) ? -1 : 0;
}

static __always_inline int nat_icmp_error(const struct nat_packet *p)
{
	__u8 type = p->l4.icmp.type;

	return p->ip.proto == NAT_ICMP && (type == 3 || type == 11 || type == 12);
}

/* Write a source or destination address; `l4` says whether the transport's checksum covers it and is at hand. */
static __always_inline void nat_set_address(struct __sk_buff *skb, struct nat_packet *p, int is_source, __be32 to, int l4)
{
	__be32 from = is_source ? p->ip.source : p->ip.destination;
	__u32 at = NAT_ETH + (is_source ? 12 : 16);

	if (l4 && p->ip.proto == NAT_UDP)
		bpf_l4_csum_replace(skb, p->at + 6, from, to, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | 4);
	bpf_l3_csum_replace(skb, NAT_ETH + 10, from, to, 4);
	bpf_skb_store_bytes(skb, at, &to, 4, 0);
}

/* Write UDP's source or destination port, or the identifier of an ICMP echo. */
static __always_inline void nat_set_port(struct __sk_buff *skb, struct nat_packet *p, int is_source, __be16 to)
{
	if (p->ip.proto == NAT_UDP) {
		__be16 from = is_source ? p->l4.udp.source : p->l4.udp.destination;

		bpf_l4_csum_replace(skb, p->at + 6, from, to, BPF_F_MARK_MANGLED_0 | 2);
		bpf_skb_store_bytes(skb, p->at + (is_source ? 0 : 2), &to, 2, 0);
	} else {
		bpf_l4_csum_replace(skb, p->at + 2, p->l4.icmp.id, to, 2);
		bpf_skb_store_bytes(skb, p->at + 4, &to, 2, 0);
	}
}

/* RFC 1624, equation 3, for a 32-bit change */
static __always_inline __be16 nat_checksum(__be16 checksum, __u32 from, __u32 to)
{
	__u32 sum = (__u16)~checksum;

	sum += (__u16)~from;
	sum += (__u16)(~from >> 16);
	sum += (__u16)to;
	sum += to >> 16;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Rewrite one end of a quoted packet, its checksums included; the ICMP checksum over it is the caller's. */
static __always_inline void nat_set_quoted(struct nat_quote *q, int is_source, __be32 address, __be16 port)
{
	__be32 *where = is_source ? &q->ip.source : &q->ip.destination;
	__be16 *which = q->ip.proto == NAT_ICMP ? &q->l4.icmp.id : is_source ? &q->l4.udp.source : &q->l4.udp.destination;

	q->ip.checksum = nat_checksum(q->ip.checksum, *where, address);
	if (q->ip.proto == NAT_ICMP) {
		q->l4.icmp.checksum = nat_checksum(q->l4.icmp.checksum, *which, port);
	} else if (q->l4.udp.checksum) {
		q->l4.udp.checksum = nat_checksum(q->l4.udp.checksum, *where, address);
		q->l4.udp.checksum = nat_checksum(q->l4.udp.checksum, *which, port);
	}
	*where = address;
	*which = port;
}

#endif

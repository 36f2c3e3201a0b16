/* SPDX-License-Identifier: Apache-2.0 */
/* The lab's own translator: UDP and ICMP over IPv4, one public address, by the terms of RFC 4787 and RFC 5508.
 *
 *   nat_out      outside device, egress: after routing, so TTL and MTU are the kernel's business, on inside addresses
 *   nat_in       outside device, ingress: before routing
 *   nat_hairpin  inside device, ingress: inside hosts that talk to each other by the public address
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
#include "layout.h"
#include "packet.h"

BPF_TABLE_PINNED7("array", u32, struct veil_nat_config, config, 1, VEIL_PINS "/config", BPF_F_MMAPABLE);
BPF_TABLE_PINNED7("lru_hash", struct veil_nat_flow, __be16, flows, VEIL_NAT_ENTRIES, VEIL_PINS "/flows", 0);
BPF_TABLE_PINNED7("lru_hash", struct veil_nat_port, struct veil_nat_mapping, ports, VEIL_NAT_ENTRIES,
		  VEIL_PINS "/ports", 0);
BPF_TABLE_PINNED7("lru_hash", struct veil_nat_permit, u64, permits, VEIL_NAT_ENTRIES, VEIL_PINS "/permits", 0);
BPF_TABLE_PINNED7("lru_hash", struct veil_nat_fragment, struct veil_nat_rewrite, fragments, VEIL_NAT_FRAGMENTS,
		  VEIL_PINS "/fragments", 0);
BPF_TABLE_PINNED7("percpu_array", u32, u64, reasons, VEIL_REASON_MAX, VEIL_PINS "/reasons", 0);

static __always_inline int alive(const struct veil_nat_config *cfg, __u8 proto, __u64 used)
{
	__u64 now = bpf_ktime_get_ns();

	/* another CPU may have written `used` after our clock was read */
	return now < used || now - used < (proto == NAT_UDP ? cfg->udp_timeout : cfg->icmp_timeout);
}

static __always_inline struct veil_nat_mapping *mapping_of(const struct veil_nat_config *cfg, __u8 proto, __be16 port)
{
	struct veil_nat_port key = { .port = port, .proto = proto };
	struct veil_nat_mapping *m = ports.lookup(&key);

	return m && m->epoch == cfg->epoch && alive(cfg, proto, m->used) ? m : NULL;
}

/* What decides the mapping of a packet from `inside` to `remote`, RFC 4787 section 4.1. */
static __always_inline void flow_key(const struct veil_nat_config *cfg, struct veil_nat_flow *key, __be32 remote,
				     __be16 remote_port)
{
	key->remote = cfg->mapping == VEIL_NAT_ENDPOINT_INDEPENDENT ? 0 : remote;
	key->remote_port = cfg->mapping == VEIL_NAT_ADDRESS_AND_PORT_DEPENDENT ? remote_port : 0;
}

/* Port of the flow's mapping, 0 if there is none; not 0 for a mapping, since port 0 is never given out. */
static __always_inline __be16 port_of(const struct veil_nat_config *cfg, const struct veil_nat_flow *key)
{
	__be16 *port = flows.lookup((struct veil_nat_flow *)key);
	struct veil_nat_mapping *m;

	if (!port)
		return 0;
	m = mapping_of(cfg, key->proto, *port);
	if (!m || m->flow.inside != key->inside || m->flow.port != key->port || m->flow.remote != key->remote ||
	    m->flow.remote_port != key->remote_port)
		return 0;
	return *port;
}

/* splitmix64's output function: the same seed gives the same ports in the same order */
static __always_inline __u64 mix(__u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The first of the ports to try; the others follow it. */
static __always_inline __u32 first_choice(struct veil_nat_config *cfg, __be16 inside_port, __u32 low, __u32 span)
{
	__u32 port = bpf_ntohs(inside_port);
	__u64 n;

	if (cfg->ports == VEIL_NAT_PORTS_PRESERVE && port >= low && port < low + span)
		return port - low;
	n = __sync_fetch_and_add(&cfg->allocated, 1);
	if (cfg->ports == VEIL_NAT_PORTS_SEQUENTIAL)
		return (__u32)(mix(cfg->seed) % span + n) % span;
	return (__u32)(mix(cfg->seed + (n + 1) * 0x9e3779b97f4a7c15ULL) >> 32) % span;
}

/* A port that no mapping holds, not even one of an earlier epoch, bound to the flow; 0 if none was found. */
static __always_inline __be16 new_mapping(struct veil_nat_config *cfg, struct veil_nat_flow *key)
{
	struct veil_nat_mapping made = { .flow = *key, .created = bpf_ktime_get_ns(), .epoch = cfg->epoch };
	__u32 low = bpf_ntohs(cfg->port_low), span = bpf_ntohs(cfg->port_high) - low + 1;
	__u32 first, i;

	if (!low || span > 65535)
		return 0;
	first = first_choice(cfg, key->port, low, span);
	made.used = made.created;
	for (i = 0; i < VEIL_NAT_TRIES; i++) {
		struct veil_nat_port at = { .port = bpf_htons(low + (first + i) % span), .proto = key->proto };
		struct veil_nat_mapping *old = ports.lookup(&at);

		if (old && alive(cfg, key->proto, old->used))
			continue;
		if (old)
			ports.delete(&at);
		if (ports.insert(&at, &made))
			continue; /* another CPU was faster */
		flows.update(key, &at.port);
		return at.port;
	}
	return 0;
}

static __always_inline void permit_key(const struct veil_nat_config *cfg, struct veil_nat_permit *key, __u64 created,
				       __u8 proto, __be16 port, __be32 remote, __be16 remote_port)
{
	key->created = created;
	key->proto = proto;
	key->port = port;
	key->remote = remote;
	key->remote_port = cfg->filtering == VEIL_NAT_ADDRESS_AND_PORT_DEPENDENT ? remote_port : 0;
}

/* RFC 4787 section 5 */
static __always_inline int lets_in(const struct veil_nat_config *cfg, const struct veil_nat_mapping *m, __u8 proto,
				   __be16 port, __be32 remote, __be16 remote_port)
{
	struct veil_nat_permit key = {};
	__u64 *used;

	if (cfg->filtering == VEIL_NAT_ENDPOINT_INDEPENDENT)
		return 1;
	permit_key(cfg, &key, m->created, proto, port, remote, remote_port);
	used = permits.lookup(&key);
	return used && alive(cfg, proto, *used);
}

/* The public port for a packet from inside: mapping found or made, refreshed, the remote endpoint let in from now on. */
static __always_inline __be16 go_out(struct veil_nat_config *cfg, struct nat_packet *p)
{
	int udp = p->ip.proto == NAT_UDP;
	struct veil_nat_flow key = { .inside = p->ip.source, .proto = p->ip.proto };
	__be16 remote_port = udp ? p->l4.udp.destination : 0;
	struct veil_nat_permit permit = {};
	struct veil_nat_mapping *m;
	__u64 now, *used;
	__be16 port;

	key.port = udp ? p->l4.udp.source : p->l4.icmp.id;
	flow_key(cfg, &key, p->ip.destination, remote_port);
	port = port_of(cfg, &key);
	if (!port)
		port = new_mapping(cfg, &key);
	m = mapping_of(cfg, key.proto, port);
	if (!port || !m)
		return 0;
	now = bpf_ktime_get_ns();
	m->used = now;
	if (cfg->filtering != VEIL_NAT_ENDPOINT_INDEPENDENT) {
		permit_key(cfg, &permit, m->created, key.proto, port, p->ip.destination, remote_port);
		used = permits.lookup(&permit);
		if (used)
			*used = now; /* cheaper than an update, by far */
		else
			permits.update(&permit, &now);
	}
	return port;
}

static __always_inline void remember_fragment(struct nat_packet *p, __be32 source, __be32 destination)
{
	struct veil_nat_fragment key = { p->ip.source, p->ip.destination, p->ip.id, p->ip.proto, 0 };
	struct veil_nat_rewrite to = { source, destination };

	if (nat_first_fragment(&p->ip))
		fragments.update(&key, &to);
}

static __always_inline __u32 later_fragment(struct __sk_buff *skb, struct nat_packet *p, __be32 own)
{
	struct veil_nat_fragment key = { p->ip.source, p->ip.destination, p->ip.id, p->ip.proto, 0 };
	struct veil_nat_rewrite *to = fragments.lookup(&key);

	if (!to) /* a long ping of the node's own address goes to its kernel, as its first fragment did */
		return p->ip.proto == NAT_ICMP && p->ip.destination == own ? VEIL_NAT_PASS : VEIL_NAT_DROP_FRAGMENT;
	nat_set_address(skb, p, 1, to->source, 0);
	nat_set_address(skb, p, 0, to->destination, 0);
	return VEIL_NAT_OK_FRAGMENT;
}

/* Translate what an ICMP error quotes. Going out the quoted packet came in (`inside` is its destination), and the other
 * way round. The quoted mapping is not refreshed, RFC 5508 section 4. */
static __always_inline __u32 icmp_error(struct __sk_buff *skb, struct veil_nat_config *cfg, struct nat_packet *p, int out)
{
	struct nat_quote old = {}, new;
	struct veil_nat_flow key = {};
	struct veil_nat_mapping *m;
	__u32 at = p->at + 8;
	__be16 port;
	__s64 diff;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return VEIL_NAT_DROP_SHORT;
	if (old.ip.proto != NAT_UDP && old.ip.proto != NAT_ICMP)
		return VEIL_NAT_PASS;
	if (old.ip.version_ihl != 0x45 || nat_later_fragment(&old.ip))
		return VEIL_NAT_DROP_ICMP;
	new = old;
	if (out) {
		key.inside = old.ip.destination;
		key.proto = old.ip.proto;
		key.port = key.proto == NAT_UDP ? old.l4.udp.destination : old.l4.icmp.id;
		flow_key(cfg, &key, old.ip.source, key.proto == NAT_UDP ? old.l4.udp.source : 0);
		port = port_of(cfg, &key);
		if (!port)
			return VEIL_NAT_DROP_ICMP;
		nat_set_quoted(&new, 0, cfg->address, port);
	} else {
		port = old.ip.proto == NAT_UDP ? old.l4.udp.source : old.l4.icmp.id;
		m = old.ip.source == cfg->address ? mapping_of(cfg, old.ip.proto, port) : NULL;
		if (!m)
			return VEIL_NAT_PASS; /* the node's own, perhaps */
		key.inside = m->flow.inside;
		nat_set_quoted(&new, 1, m->flow.inside, m->flow.port);
	}
	diff = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0);
	bpf_l4_csum_replace(skb, p->at + 2, 0, diff, 0);
	nat_set_address(skb, p, out, out ? cfg->address : key.inside, 0);
	return VEIL_NAT_OK_ERROR;
}

static __always_inline __u32 outbound(struct __sk_buff *skb, struct veil_nat_config *cfg, struct nat_packet *p)
{
	__be16 port;

	if (nat_later_fragment(&p->ip))
		return p->ip.source == cfg->address ? VEIL_NAT_PASS : later_fragment(skb, p, cfg->address);
	if (nat_icmp_error(p))
		return icmp_error(skb, cfg, p, 1);
	if (p->ip.source == cfg->address)
		return VEIL_NAT_PASS;
	if (p->ip.proto == NAT_ICMP && p->l4.icmp.type != 8)
		return VEIL_NAT_DROP_ICMP;
	port = go_out(cfg, p);
	if (!port)
		return VEIL_NAT_DROP_NO_PORT;
	remember_fragment(p, cfg->address, p->ip.destination);
	nat_set_port(skb, p, 1, port);
	nat_set_address(skb, p, 1, cfg->address, 1);
	return VEIL_NAT_OK_OUT;
}

static __always_inline __u32 inbound(struct __sk_buff *skb, struct veil_nat_config *cfg, struct nat_packet *p)
{
	int udp = p->ip.proto == NAT_UDP;
	struct veil_nat_mapping *m;
	__be16 port;

	if (nat_icmp_error(p))
		return icmp_error(skb, cfg, p, 0);
	if (!udp && p->l4.icmp.type != 0)
		return VEIL_NAT_PASS; /* the node answers pings of its own address */
	port = udp ? p->l4.udp.destination : p->l4.icmp.id;
	m = mapping_of(cfg, p->ip.proto, port);
	if (!m)
		return udp ? VEIL_NAT_DROP_NO_MAPPING : VEIL_NAT_PASS;
	if (!lets_in(cfg, m, p->ip.proto, port, p->ip.source, udp ? p->l4.udp.source : 0))
		return VEIL_NAT_DROP_FILTERED;
	if (cfg->inbound_refresh)
		m->used = bpf_ktime_get_ns();
	remember_fragment(p, p->ip.source, m->flow.inside);
	nat_set_port(skb, p, 0, m->flow.port);
	nat_set_address(skb, p, 0, m->flow.inside, 1);
	return VEIL_NAT_OK_IN;
}

/* RFC 4787 REQ-9: the other inside host sees the public address and port of the sender. */
static __always_inline __u32 hairpin(struct __sk_buff *skb, struct veil_nat_config *cfg, struct nat_packet *p)
{
	struct veil_nat_mapping *m;
	__be16 port;

	if (!cfg->hairpin)
		return VEIL_NAT_DROP_HAIRPIN;
	port = go_out(cfg, p);
	if (!port)
		return VEIL_NAT_DROP_NO_PORT;
	m = mapping_of(cfg, NAT_UDP, p->l4.udp.destination);
	if (!m)
		return VEIL_NAT_DROP_NO_MAPPING;
	if (!lets_in(cfg, m, NAT_UDP, p->l4.udp.destination, cfg->address, port))
		return VEIL_NAT_DROP_FILTERED;
	remember_fragment(p, cfg->address, m->flow.inside);
	nat_set_port(skb, p, 1, port);
	nat_set_address(skb, p, 1, cfg->address, 1);
	nat_set_port(skb, p, 0, m->flow.port);
	nat_set_address(skb, p, 0, m->flow.inside, 1);
	return VEIL_NAT_OK_HAIRPIN;
}

static __always_inline int is_multicast(__be32 address)
{
	return (bpf_ntohl(address) & 0xf0000000) == 0xe0000000 || address == 0xffffffff;
}

static __always_inline int count(__u32 reason)
{
	u64 *n = reasons.lookup(&reason);

	if (n)
		*n += 1;
	return reason > VEIL_NAT_PASS || reason == VEIL_NAT_UNSET ? TC_ACT_SHOT : TC_ACT_OK;
}

/* What the three programs have in common: 1 if the packet is theirs, 0 and a reason if not. */
static __always_inline int ours(struct __sk_buff *skb, struct nat_packet *p, __u32 *reason)
{
	*reason = VEIL_NAT_PASS;
	if (skb->protocol != bpf_htons(0x0800))
		return 0;
	if (nat_read(skb, p)) {
		*reason = VEIL_NAT_DROP_SHORT;
		return 0;
	}
	return (p->ip.proto == NAT_UDP || p->ip.proto == NAT_ICMP) && !is_multicast(p->ip.destination);
}

int nat_out(struct __sk_buff *skb)
{
	struct nat_packet p = {};
	__u32 zero = 0, reason;
	struct veil_nat_config *cfg = config.lookup(&zero);

	if (cfg && ours(skb, &p, &reason))
		reason = outbound(skb, cfg, &p);
	return count(cfg ? reason : VEIL_NAT_UNSET);
}

int nat_in(struct __sk_buff *skb)
{
	struct nat_packet p = {};
	__u32 zero = 0, reason;
	struct veil_nat_config *cfg = config.lookup(&zero);

	if (cfg && ours(skb, &p, &reason)) {
		if (p.ip.destination != cfg->address)
			reason = VEIL_NAT_DROP_PRIVATE;
		else
			reason = nat_later_fragment(&p.ip) ? later_fragment(skb, &p, cfg->address) : inbound(skb, cfg, &p);
	}
	return count(cfg ? reason : VEIL_NAT_UNSET);
}

int nat_hairpin(struct __sk_buff *skb)
{
	struct nat_packet p = {};
	__u32 zero = 0, reason;
	struct veil_nat_config *cfg = config.lookup(&zero);

	if (cfg && ours(skb, &p, &reason) && p.ip.proto == NAT_UDP && p.ip.destination == cfg->address)
		reason = nat_later_fragment(&p.ip) ? later_fragment(skb, &p, cfg->address) : hairpin(skb, cfg, &p);
	return count(cfg ? reason : VEIL_NAT_UNSET);
}

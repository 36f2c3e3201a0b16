/* SPDX-License-Identifier: Apache-2.0 */
/* XDP on the NIC, of Guardian and Conflux alike: hop, knock check, control, end of circuit.
 *
 * A packet is written to only once it has authenticated, so what fails a check reaches the kernel byte for byte. */
#include <uapi/linux/bpf.h>
#include "contract.h"
#include "maps.h"
#include "verdict.h"
#include "replay.h"
#include "siphash.h"
#include "outer.h"
#include "parse.h"
#include "hop.h"
#include "knock.h"
#include "rate.h"
#include "veil_open.h"

struct rx { /* what one packet's way through the program has found out */
	struct veil_flow flow;
	__u64 now; /* jiffies */
	__u64 header;
	struct veil_circuit *circuit; /* of the label; null if there is none */
	__u64 kind_in;		      /* circuit: kind | in_link */
	__u64 out;		      /* circuit: out_link | out_label */
	__u32 link;    /* 0: unknown 5-tuple */
	__u32 stream;  /* 0: not the end of a circuit */
	__u32 slot;
	int action;
};

static __always_inline __u32 find_link(const struct veil_config *cfg, struct veil_flow *flow)
{
	__u32 index = veil_bucket_index(&flow->way, cfg->bucket_seed), full, link, *wide;
	struct veil_link_bucket *bucket = link_buckets.lookup(&index);

	if (!bucket)
		return 0;
	link = veil_bucket_find(bucket, &flow->way, &full);
	if (link || !full)
		return link;
	wide = links_wide.lookup(&flow->way);
	return wide ? *wide : 0;
}

/* Which receive slot of `link` verifies the frame: 0, 1, or 2 for none. The circuit is read between unmasking and the
 * tag check: its cache miss then costs nothing while the tag is computed. Until the tag is right it is only data. */
static __always_inline __u32 open_hop(struct rx *rx, struct veil_link *link, const struct veil_frame *frame)
{
	__u32 hint = link->rx_hint;

#pragma unroll
	for (__u32 i = 0; i < 2; i++) {
		__u32 slot = (hint ^ i) & 1, label;
		struct veil_link_rx *key = &link->rx[slot];
		struct veil_circuit *circuit;

		if (!key->valid)
			continue;
		rx->header = veil_hop_unmask(&key->key, frame);
		label = veil_header_label(rx->header);
		circuit = circuits.lookup(&label);
		rx->circuit = circuit;
		rx->kind_in = circuit ? *(volatile __u64 *)&circuit->kind : 0;
		rx->out = circuit ? *(volatile __u64 *)&circuit->out_link : 0;
		if (!veil_hop_verify(&key->key, frame, rx->header))
			continue;
		if (veil_still(&key->valid, 1) && veil_still(&link->state, VEIL_LINK_UP))
			return slot;
	}
	return 2;
}

/* Commit an authenticated frame to its link: replay window, then what keyd reads. 0, or the reason to refuse. */
static __always_inline __u32 take_hop(struct rx *rx, struct veil_link *link)
{
	if (!veil_replay_take(link->win[rx->slot & 1], VEIL_LINK_WIN_WORDS, veil_header_counter(rx->header)))
		return VEIL_PASS_LINK_REPLAY;
	if (link->rx_hint != rx->slot)
		link->rx_hint = rx->slot;
	link->rx_seen = rx->now;
	link->rx_frames++;
	return 0;
}

/* Swap the label, seal for the next link, send. Checks come first: a dropped frame costs no counter. */
static __always_inline __u32 forward(struct xdp_md *ctx, struct rx *rx, const struct veil_config *cfg,
				     struct veil_frame *frame)
{
	__u32 index = rx->out, label = rx->out >> 32, budget = veil_header_budget(rx->header), reason, counter;
	struct veil_link *out = links.lookup(&index);
	struct veil_link_tx *tx;

	if (!budget)
		return VEIL_DROP_BUDGET;
	if (!out || !index || out->state != VEIL_LINK_UP)
		return VEIL_DROP_LINK_DOWN;
	if (rx->flow.payload + VEIL_OUTER4_LEN > out->mtu)
		return VEIL_DROP_TOO_BIG;
	reason = veil_l2_ready(ctx, &out->l2, &out->addrs, cfg, rx->now);
	if (reason)
		return reason;
	tx = &out->tx[out->tx_slot & 1];
	if (!veil_hop_counter(tx, &counter))
		return VEIL_DROP_EXHAUSTED;
	veil_hop_seal(&tx->key, frame, veil_header(label, budget - 1, counter));
	veil_outer_write((void *)frame - VEIL_OUTER_LEN, &out->addrs, &out->l2, rx->flow.payload);
	if (!veil_still(&out->state, VEIL_LINK_UP))
		return VEIL_DROP_LINK_DOWN;
	out->tx_seen = rx->now;
	/* a neighbour could mark frames by what it appends to them */
	if (rx->flow.spare && bpf_xdp_adjust_tail(ctx, -(int)rx->flow.spare))
		return VEIL_DROP_INTERNAL;
	rx->action = out->l2.ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(out->l2.ifindex, 0);
	return VEIL_OK_FORWARD;
}

/* Is the address one of `peer`: its own overlay address, or in one of its networks? Another's overlay address is not,
 * however wide the network. */
static __always_inline int belongs(const struct veil_route_key *addr, __u32 peer)
{
	struct veil_route *route = routes.lookup((struct veil_route_key *)addr);

	if (!route) {
		struct veil_network_key key;

		veil_network_key(&key, peer, addr);
		route = networks.lookup(&key);
	}
	return route && route->peer == peer;
}

/* The inner packet of an opened frame: it must come from an address or network that the directory gives to the stream's
 * peer, and go to one of ours: a peer reaches nothing else of what this host has or would forward to. */
static __always_inline __u32 deliver(struct xdp_md *ctx, struct rx *rx, const struct veil_config *cfg,
				     const struct veil_stream *stream, __u64 shdr)
{
	struct veil_route_key key;
	__u32 reason = veil_open_inner(ctx, shdr, &key);

	if (reason)
		return reason;
	if (!belongs(&key, stream->peer))
		return VEIL_DROP_INNER_SRC;
	if (!veil_open_dst(ctx, &key) || !belongs(&key, VEIL_PEER_SELF))
		return VEIL_DROP_INNER_NOT_OURS;
	rx->action = bpf_redirect(cfg->veil0p_ifindex, 0);
	return veil_open_deliver(ctx, cfg);
}

/* The end of a circuit: open the stream frame. VEIL_OK_CONTROL: its body is for keyd. */
static __always_inline __u32 end_circuit(struct xdp_md *ctx, struct rx *rx, const struct veil_config *cfg,
					 const struct veil_circuit *circuit, struct veil_chacha20 *cipher)
{
	__u32 index = circuit->stream, flags = circuit->flags, reason = VEIL_DROP_STREAM_DOWN;
	struct veil_stream *stream = streams.lookup(&index), *lane;
	__u64 shdr;

	rx->stream = index;
	if (stream && index)
		reason = veil_open_header(ctx, stream, rx->flow.payload, &shdr);
	if (reason)
		return veil_open_grace(reason, flags, rx->flow.payload);
	index += veil_shdr_lane(shdr);
	lane = streams.lookup(&index);
	if (!lane)
		return VEIL_DROP_STREAM_DOWN;
	reason = veil_open_text(ctx, lane, cipher, rx->flow.payload, shdr);
	if (reason)
		return veil_open_grace(reason, flags, rx->flow.payload);
	lane->rx_seen = rx->now;
	lane->rx_frames++;
	return deliver(ctx, rx, cfg, stream, shdr);
}

/* What an authenticated frame's label asks for. */
static __always_inline __u32 follow_label(struct xdp_md *ctx, struct rx *rx, const struct veil_config *cfg,
					  struct veil_frame *frame, struct veil_chacha20 *cipher)
{
	__u32 label = veil_header_label(rx->header), kind = rx->kind_in;
	struct veil_circuit *circuit = rx->circuit;

	if (!label)
		return VEIL_OK_CONTROL;
	if (!circuit || kind == VEIL_CIRCUIT_UNSET || rx->kind_in >> 32 != rx->link)
		return VEIL_DROP_LABEL;
	circuit->seen = rx->now;
	circuit->frames++;
	if (kind == VEIL_CIRCUIT_FORWARD)
		return forward(ctx, rx, cfg, frame);
	if (kind == VEIL_CIRCUIT_LOCAL)
		return VEIL_OK_CONTROL;
	return kind == VEIL_CIRCUIT_END ? end_circuit(ctx, rx, cfg, circuit, cipher) : VEIL_DROP_LABEL;
}

/* May a fresh knock go to keyd? Not more than one source may send, and only as long as keyd keeps up: the
 * ring is for those who have a link, too. */
static __always_inline int admit_knock(const struct rx *rx)
{
	struct veil_knock_source source = {};
	__u64 now = bpf_ktime_get_ns(), none = 0, *due;
	__u32 zero = 0;
	struct veil_event_share *share = event_share.lookup(&zero);

	*(__be32 *)source.addr = rx->flow.way.remote;
	due = knock_sources.lookup_or_try_init(&source, &none);
	return share && due && veil_rate_take(due, now, VEIL_KNOCK_RATE, VEIL_KNOCK_BURST) &&
	       veil_share_take(share, VEIL_PART_KNOCK, VEIL_SHARE_KNOCK);
}

/* May an authenticated body go to keyd? Control of links and of streams that are up has a bucket each, which a flood of
 * others does not touch; circuits without a stream share one, since nobody knows yet whose they are. */
static __always_inline int admit_control(struct rx *rx)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0;
	struct veil_event_share *share = event_share.lookup(&zero);
	struct veil_link *link = links.lookup(&rx->link);

	if (!link || !share)
		return 0;
	if (!veil_header_label(rx->header))
		return veil_rate_take(&link->own_due, now, VEIL_LINK_RATE, VEIL_LINK_BURST);
	if (!rx->circuit || !veil_rate_take(&rx->circuit->due, now, VEIL_CIRCUIT_RATE, VEIL_CIRCUIT_BURST))
		return 0;
	return rx->stream || (veil_rate_take(&link->transit_due, now, VEIL_TRANSIT_RATE, VEIL_TRANSIT_BURST) &&
			      veil_share_take(share, VEIL_PART_TRANSIT, VEIL_SHARE_TRANSIT));
}

/* KN3, KN4: the frame of a stranger, or a reply that a pending link waits for. OK_KNOCK, OK_CONTROL, or the reason why
 * it is neither. */
static __always_inline __u32 handshake(struct rx *rx, const struct veil_config *cfg, struct veil_link *link,
				       struct veil_frame *frame, const void *end)
{
	__u32 refused = link ? VEIL_PASS_LINK_TAG : VEIL_PASS_KNOCK_TAG, accepted = VEIL_OK_KNOCK;
	const __u32 *valid = NULL;
	__u64 full[2], tag;

	if (!veil_knock_shaped(frame, end, rx->flow.payload))
		return link ? VEIL_PASS_LINK_TAG : VEIL_PASS_NO_LINK;
	rx->slot = 2;
	if (link && link->state == VEIL_LINK_PENDING && link->rx[0].valid) {
		rx->header = veil_hop_unmask(&link->rx[0].key, frame);
		if (veil_hop_verify(&link->rx[0].key, frame, rx->header)) {
			full[0] = link->full[0];
			full[1] = link->full[1];
			valid = &link->rx[0].valid;
			rx->slot = 0;
			accepted = VEIL_OK_CONTROL;
		}
	}
	if (rx->slot == 2) {
		if (rx->flow.way.lport != cfg->knock_port)
			return link ? VEIL_PASS_LINK_TAG : VEIL_PASS_NO_LINK;
		rx->slot = veil_knock_slot(cfg->knock, frame, &rx->header);
		if (rx->slot > 1)
			return refused;
		full[0] = cfg->knock[rx->slot & 1].full[0];
		full[1] = cfg->knock[rx->slot & 1].full[1];
		valid = (const __u32 *)&cfg->knock[rx->slot & 1].valid;
	}
	if (rx->header != veil_knock_header(full, frame->body))
		return VEIL_PASS_KNOCK_BODY;
	if (!valid || !veil_still(valid, 1) || (accepted == VEIL_OK_CONTROL && !veil_still(&link->state, VEIL_LINK_PENDING)))
		return refused;
	tag = frame->tag;
	/* replays first: a stranger must not use up what a member's address may send */
	if (knock_seen.lookup(&tag))
		return VEIL_PASS_KNOCK_REPLAY;
	if (accepted == VEIL_OK_KNOCK && !admit_knock(rx))
		return VEIL_DROP_KNOCK_RATE;
	if (knock_seen.insert(&tag, &rx->now))
		return VEIL_PASS_KNOCK_REPLAY;
	return accepted;
}

/* Hand the frame's body to keyd. `reason` says as what, and is returned unless the ring is full. */
static __always_inline __u32 raise_event(struct xdp_md *ctx, struct rx *rx, __u32 reason)
{
	__u64 len = rx->flow.payload - VEIL_FRAME_LEN;
	struct veil_event *event;

	if (len > VEIL_EVENT_DATA_MAX)
		return VEIL_DROP_TOO_BIG;
	asm volatile("" : "+r"(len)); /* two plain comparisons, or the verifier loses one of the bounds */
	if (len < VEIL_FRAME_MIN - VEIL_FRAME_LEN)
		return VEIL_DROP_INTERNAL;
	if (reason == VEIL_OK_CONTROL && !admit_control(rx))
		return VEIL_DROP_CONTROL_RATE;
	event = events.ringbuf_reserve(sizeof(struct veil_event));
	if (!event)
		return VEIL_DROP_EVENT_FULL;
	__builtin_memset(event, 0, sizeof(*event) - VEIL_EVENT_DATA_MAX);
	event->type = reason == VEIL_OK_KNOCK ? VEIL_EVENT_KNOCK : VEIL_EVENT_CONTROL;
	event->link = rx->link;
	event->label = veil_header_label(rx->header);
	event->stream = rx->stream;
	event->ifindex = ctx->ingress_ifindex;
	event->slot = rx->slot;
	*(__be32 *)event->addrs.remote = rx->flow.way.remote;
	*(__be32 *)event->addrs.local = rx->flow.way.local;
	event->addrs.rport = rx->flow.way.rport;
	event->addrs.lport = rx->flow.way.lport;
	event->addrs.family = 4;
	event->len = len;
	if (bpf_xdp_load_bytes(ctx, VEIL_OUTER_LEN + VEIL_FRAME_LEN, event->data, len)) {
		events.ringbuf_discard(event, 0);
		return VEIL_PASS_TRUNCATED;
	}
	events.ringbuf_submit(event, 0);
	return reason;
}

static __always_inline __u32 receive(struct xdp_md *ctx, struct rx *rx, const struct veil_config *cfg,
				     struct veil_chacha20 *cipher)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct veil_frame *frame = data + VEIL_OUTER_LEN;
	struct veil_link *link = NULL;
	__u32 reason = veil_parse(data, end, &rx->flow);

	if (reason)
		return reason;
	rx->now = bpf_jiffies64();
	rx->link = find_link(cfg, &rx->flow);
	if (rx->link)
		link = links.lookup(&rx->link);
	if (link && link->state == VEIL_LINK_UNSET)
		link = NULL;
	if (link && link->state == VEIL_LINK_UP) {
		rx->slot = open_hop(rx, link, frame);
		if (rx->slot < 2) {
			reason = take_hop(rx, link);
			return reason ? reason : follow_label(ctx, rx, cfg, frame, cipher);
		}
	}
	return handshake(rx, cfg, link, frame, end);
}

int veil_rx(struct xdp_md *ctx)
{
	struct veil_chacha20 cipher;
	struct rx rx = {.action = XDP_DROP};
	__u32 zero = 0, reason = VEIL_DROP_INTERNAL, dark = 0;
	struct veil_config *cfg = config.lookup(&zero);

	if (cfg) {
		reason = receive(ctx, &rx, cfg, &cipher);
		if (reason == VEIL_OK_KNOCK || reason == VEIL_OK_CONTROL)
			reason = raise_event(ctx, &rx, reason);
		/* a port that isn't VeilNet's stays as it is */
		dark = cfg->dark && (reason != VEIL_PASS_NO_LINK || rx.flow.way.lport == cfg->knock_port);
	}
	return veil_verdict(reasons.lookup(&reason), reason, rx.action, dark);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* XDP on veil0p, the inner end of the host's overlay device: inner packet → stream frame → hop frame → NIC.
 *
 * Nothing that is not sealed leaves: every verdict but a sealed frame's is a drop. Checks come first, so that a dropped
 * packet costs no counter; a counter once taken is never given back. */
#include <uapi/linux/bpf.h>
#include "contract.h"
#include "maps.h"
#include "verdict.h"
#include "siphash.h"
#include "outer.h"
#include "hop.h"
#include "rate.h"
#include "inner.h"
#include "aead.h"
#include "stream.h"

struct seal { /* what one packet's way through the program has found out */
	struct veil_route_key dst;
	__u32 len; /* of the inner packet */
	__u32 action;
	__u32 label;
	__u32 budget;
	__u32 lane;
	__u32 slot;
	__u64 now; /* jiffies */
};

/* The inner packet behind its Ethernet header: length and destination. 0, or the reason to drop. */
static __always_inline __u32 parse(struct xdp_md *ctx, struct seal *s, const struct veil_config *cfg)
{
	__u8 *data = veil_data(ctx), *ip = data + VEIL_ETH_LEN;
	void *end = veil_data_end(ctx);

	s->len = veil_inner_len(ip, end);
	if (!s->len || s->len > (long)end - (long)ip)
		return VEIL_DROP_INNER_NOT_IP;
	if (*(__be16 *)(data + VEIL_ETH_LEN - 2) != veil_inner_proto(ip))
		return VEIL_DROP_INNER_NOT_IP;
	if (s->len > cfg->inner_mtu || s->len > VEIL_INNER_MAX)
		return VEIL_DROP_INNER_TOO_BIG;
	if (!veil_inner_key(ip, end, VEIL_IP4_DST, VEIL_IP6_DST, &s->dst))
		return VEIL_DROP_INNER_NOT_IP;
	return 0;
}

/* Hand the inner packet to keyd, which sends it once a stream to `route->peer` is up. */
static __always_inline __u32 wait(struct xdp_md *ctx, const struct seal *s, const struct veil_route *route)
{
	struct veil_event_share *share;
	struct veil_event *event;
	__u64 len = s->len;
	__u32 zero = 0;

	if (len > VEIL_EVENT_DATA_MAX)
		return VEIL_DROP_INNER_TOO_BIG;
	asm volatile("" : "+r"(len)); /* two plain comparisons, or the verifier loses one of the bounds */
	if (len < VEIL_IP4_LEN)
		return VEIL_DROP_INTERNAL;
	share = event_share.lookup(&zero);
	if (!share || !veil_share_take(share, VEIL_PART_WAIT, VEIL_SHARE_WAIT))
		return VEIL_DROP_EVENT_FULL;
	event = events.ringbuf_reserve(sizeof(struct veil_event));
	if (!event)
		return VEIL_DROP_EVENT_FULL;
	__builtin_memset(event, 0, sizeof(*event) - VEIL_EVENT_DATA_MAX);
	event->type = VEIL_EVENT_NO_STREAM;
	event->stream = route->stream;
	event->peer = route->peer;
	event->ifindex = ctx->ingress_ifindex;
	event->len = len;
	if (bpf_xdp_load_bytes(ctx, VEIL_ETH_LEN, event->data, len)) {
		events.ringbuf_discard(event, 0);
		return VEIL_DROP_INNER_NOT_IP;
	}
	events.ringbuf_submit(event, 0);
	return VEIL_OK_WAIT;
}

/* Cut Ethernet padding off and make room in front: the inner packet then starts at VEIL_TEXT_OFF and ends the frame. */
static __always_inline __u32 make_room(struct xdp_md *ctx, const struct seal *s)
{
	int spare = (long)veil_data_end(ctx) - (long)veil_data(ctx) - VEIL_ETH_LEN - s->len;

	if (spare > 0 && bpf_xdp_adjust_tail(ctx, -spare))
		return VEIL_DROP_INTERNAL;
	return bpf_xdp_adjust_head(ctx, -VEIL_OVERHEAD4) ? VEIL_DROP_HEADROOM : 0;
}

/* ST1 to ST3, FR1, FR2 and the outer headers. */
static __always_inline __u32 seal_frame(struct xdp_md *ctx, struct seal *s, struct veil_chacha20 *cipher,
					struct veil_stream *stream, struct veil_link *out)
{
	struct veil_stream_key *key = &stream->tx[s->slot & 1];
	struct veil_link_tx *tx = &out->tx[out->tx_slot & 1];
	__u32 hop_counter;
	struct veil_aead aead;
	__u64 tag[2], shdr, counter;
	__u8 *data;

	if (!veil_hop_counter(tx, &hop_counter))
		return VEIL_DROP_EXHAUSTED;
	counter = __sync_fetch_and_add(&key->counter, 1);
	if (counter >= VEIL_COUNTER_LIMIT)
		return VEIL_DROP_EXHAUSTED;
	shdr = veil_shdr(counter, 0, stream->lane, s->slot);
	veil_aead_init(&aead, key->key, counter, shdr);
	veil_aead_seal(&aead, cipher, ctx, VEIL_TEXT_OFF, tag);
	data = veil_data(ctx);
	if ((void *)(data + VEIL_TEXT_OFF) > veil_data_end(ctx))
		return VEIL_DROP_INTERNAL;
	veil_stream_write(data + VEIL_BODY_OFF, stream->tx_hp, tag, shdr);
	veil_hop_seal(&tx->key, (void *)(data + VEIL_OUTER_LEN), veil_header(stream->out_label, stream->budget, hop_counter));
	veil_outer_write(data, &out->addrs, &out->l2, s->len + VEIL_FRAME_LEN + VEIL_STREAM_LEN);
	if (!veil_still(&stream->state, VEIL_STREAM_UP) || !veil_still(&key->valid, 1))
		return VEIL_DROP_STREAM_DOWN;
	if (!veil_still(&out->state, VEIL_LINK_UP))
		return VEIL_DROP_LINK_DOWN;
	stream->tx_seen = s->now;
	out->tx_seen = s->now;
	return 0;
}

/* Send by XDP redirect, or mark the frame for veil_emit and let it pass. */
static __always_inline __u32 emit(struct xdp_md *ctx, struct seal *s, const struct veil_config *cfg, const struct veil_link *out)
{
	__u8 *data = veil_data(ctx);

	if (cfg->emit == VEIL_EMIT_REDIRECT) {
		s->action = bpf_redirect(out->l2.ifindex, 0);
		return VEIL_OK_SEAL;
	}
	if ((void *)(data + VEIL_ETH_LEN) > veil_data_end(ctx))
		return VEIL_DROP_INTERNAL;
	veil_emit_mark(data, cfg->veil0p_mac, out->l2.ifindex);
	s->action = XDP_PASS;
	return VEIL_OK_SEAL_TC;
}

static __always_inline __u32 send(struct xdp_md *ctx, struct seal *s, struct veil_chacha20 *cipher,
				  const struct veil_config *cfg, struct veil_stream *stream)
{
	__u32 index = stream->out_link, reason;
	struct veil_link *out = links.lookup(&index);

	s->slot = stream->tx_slot & 1;
	if (!stream->tx[s->slot].valid)
		return VEIL_DROP_STREAM_DOWN;
	if (!out || !index || out->state != VEIL_LINK_UP)
		return VEIL_DROP_LINK_DOWN;
	if (s->len + VEIL_OVERHEAD4 > out->mtu)
		return VEIL_DROP_TOO_BIG;
	s->now = bpf_jiffies64();
	reason = veil_l2_ready(ctx, &out->l2, &out->addrs, cfg, s->now);
	if (!reason)
		reason = make_room(ctx, s);
	if (!reason)
		reason = seal_frame(ctx, s, cipher, stream, out);
	return reason ? reason : emit(ctx, s, cfg, out);
}

/* Whose the destination is: an overlay address wins over any network. Null: nobody's, or our own. */
static __always_inline struct veil_route *find_route(const struct seal *s)
{
	struct veil_route *route = routes.lookup((struct veil_route_key *)&s->dst);

	if (!route) {
		struct veil_network_key key;

		veil_network_key(&key, VEIL_SCOPE_TO, &s->dst);
		route = networks.lookup(&key);
	}
	return route && route->peer != VEIL_PEER_NONE && route->peer != VEIL_PEER_SELF ? route : NULL;
}

static __always_inline __u32 seal(struct xdp_md *ctx, struct seal *s, struct veil_chacha20 *cipher,
				  const struct veil_config *cfg)
{
	__u32 reason = parse(ctx, s, cfg), index;
	struct veil_stream *stream;
	struct veil_route *route;

	if (reason)
		return reason;
	route = find_route(s);
	if (!route)
		return VEIL_DROP_INNER_DST;
	index = route->stream;
	stream = streams.lookup(&index);
	if (!index || !stream || stream->state != VEIL_STREAM_UP)
		return wait(ctx, s, route);
	return send(ctx, s, cipher, cfg, stream);
}

int veil_seal(struct xdp_md *ctx)
{
	struct veil_chacha20 cipher;
	struct seal s = {.action = XDP_DROP};
	__u32 zero = 0, reason = VEIL_DROP_INTERNAL;
	struct veil_config *cfg = config.lookup(&zero);

	if (cfg)
		reason = seal(ctx, &s, &cipher, cfg);
	return veil_verdict(reasons.lookup(&reason), reason, s.action, 0);
}

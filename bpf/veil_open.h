/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a circuit: stream frame → inner packet for veil0p. Include siphash.h and replay.h first.
 *
 * The entry file looks maps up between these steps, each of which gives 0 or the reason to stop:
 *
 *   veil_open_header    unmask the stream header (lane 0's entry)
 *   veil_open_text      check the tag, take the counter, decipher (the lane's entry)
 *   veil_open_inner     drop the outer headers, check the inner packet, tell its source address
 *   veil_open_deliver   Ethernet header for veil0
 *
 * Up to the end of the tag check the body stays as it came in, so that the caller may hand it to keyd instead.
 */
#ifndef VEIL_OPEN_H
#define VEIL_OPEN_H

#include "aead.h"
#include "contract.h"
#include "hop.h"
#include "inner.h"
#include "outer.h"
#include "replay.h"
#include "stream.h"

#define VEIL_BODY_MIN (VEIL_STREAM_LEN + VEIL_IP4_LEN)
#define VEIL_BODY_MAX (VEIL_STREAM_LEN + VEIL_INNER_MAX)

/* ST3 backwards. `stream`: lane 0's entry. `payload`: bytes of UDP payload. VEIL_OK_CONTROL: the body is keyd's. Nothing
 * in `*shdr` is proven yet. */
static __always_inline __u32 veil_open_header(struct xdp_md *ctx, const struct veil_stream *stream, __u32 payload,
					      __u64 *shdr)
{
	__u8 *data = veil_data(ctx);
	const struct veil_stream_body *body = (void *)(data + VEIL_BODY_OFF);

	if (stream->state != VEIL_STREAM_UP)
		return VEIL_DROP_STREAM_DOWN;
	if ((void *)(body + 1) > veil_data_end(ctx))
		return VEIL_DROP_STREAM_HDR;
	*shdr = body->shdr ^ veil_sip16(stream->rx_hp, body->tag[0], body->tag[1]);
	if (veil_shdr_lane(*shdr) == VEIL_LANE_CONTROL)
		return VEIL_OK_CONTROL;
	if (veil_shdr_flags(*shdr) & ~VEIL_SHDR_SLOT)
		return VEIL_DROP_STREAM_HDR;
	if (payload < VEIL_FRAME_LEN + VEIL_BODY_MIN || payload > VEIL_FRAME_LEN + VEIL_BODY_MAX)
		return VEIL_DROP_STREAM_HDR;
	if (veil_shdr_pad(*shdr) + VEIL_FRAME_LEN + VEIL_BODY_MIN > payload)
		return VEIL_DROP_STREAM_HDR;
	return veil_shdr_lane(*shdr) < stream->lanes ? 0 : VEIL_DROP_STREAM_DOWN;
}

/* ST1, ST2 backwards: cut what follows the frame (Ethernet padding), check, take the counter, decipher. `lane`: the
 * lane's own entry. */
static __always_inline __u32 veil_open_text(struct xdp_md *ctx, struct veil_stream *lane, struct veil_chacha20 *cipher,
					    __u32 payload, __u64 shdr)
{
	__u32 slot = veil_shdr_flags(shdr);
	struct veil_stream_key *key;
	struct veil_aead aead;
	__u64 tag[2];
	__u8 *data = veil_data(ctx);
	const struct veil_stream_body *body = (void *)(data + VEIL_BODY_OFF);
	int spare = (long)veil_data_end(ctx) - (long)data - VEIL_OUTER_LEN - payload;

	/* The compiler knows from veil_open_header that the mask changes nothing and drops it; the verifier of 6.1 knows not. */
	asm volatile("" : "+r"(slot));
	slot &= VEIL_SHDR_SLOT;
	key = &lane->rx[slot];
	if (lane->state != VEIL_STREAM_UP || !key->valid)
		return VEIL_DROP_STREAM_DOWN;
	if ((void *)(body + 1) > veil_data_end(ctx))
		return VEIL_DROP_STREAM_HDR;
	tag[0] = body->tag[0];
	tag[1] = body->tag[1];
	if (spare > 0 && bpf_xdp_adjust_tail(ctx, -spare))
		return VEIL_DROP_INTERNAL;
	veil_aead_init(&aead, key->key, veil_shdr_counter(shdr), shdr);
	if (veil_aead_check(&aead, cipher, ctx, VEIL_TEXT_OFF, tag))
		return VEIL_DROP_STREAM_AUTH;
	if (!veil_still(&lane->state, VEIL_STREAM_UP) || !veil_still(&key->valid, 1))
		return VEIL_DROP_STREAM_DOWN;
	if (!veil_replay_take(lane->win[slot], VEIL_STREAM_WIN_WORDS, veil_shdr_counter(shdr)))
		return VEIL_DROP_STREAM_REPLAY;
	veil_aead_cipher(&aead, cipher, ctx, VEIL_TEXT_OFF);
	if (!veil_still(&lane->state, VEIL_STREAM_UP) || !veil_still(&key->valid, 1))
		return VEIL_DROP_STREAM_DOWN; /* deciphered with what a wipe has left of the key */
	return 0;
}

/* Leave the inner packet and room for an Ethernet header; `*src` becomes the look-up key of its source address. */
static __always_inline __u32 veil_open_inner(struct xdp_md *ctx, __u64 shdr, struct veil_route_key *src)
{
	__u8 *ip;
	void *end;
	__u32 len;

	if (bpf_xdp_adjust_head(ctx, VEIL_OVERHEAD4 + veil_shdr_pad(shdr)))
		return VEIL_DROP_INNER_BAD;
	ip = (__u8 *)veil_data(ctx) + VEIL_ETH_LEN;
	end = veil_data_end(ctx);
	len = veil_inner_len(ip, end);
	if (!len || len != (long)end - (long)ip)
		return VEIL_DROP_INNER_BAD;
	return veil_inner_key(ip, end, VEIL_IP4_SRC, VEIL_IP6_SRC, src) ? 0 : VEIL_DROP_INNER_BAD;
}

/* Where the inner packet wants to go: 1 and its key, or 0. */
static __always_inline int veil_open_dst(struct xdp_md *ctx, struct veil_route_key *dst)
{
	return veil_inner_key((__u8 *)veil_data(ctx) + VEIL_ETH_LEN, veil_data_end(ctx), VEIL_IP4_DST, VEIL_IP6_DST, dst);
}

/* VEIL_OK_OPEN once the packet is one for veil0; the caller redirects it to config.veil0p_ifindex. */
static __always_inline __u32 veil_open_deliver(struct xdp_md *ctx, const struct veil_config *cfg)
{
	__u8 *data = veil_data(ctx);

	if ((void *)(data + VEIL_ETH_LEN + 1) > veil_data_end(ctx))
		return VEIL_DROP_INTERNAL;
	__builtin_memcpy(data, cfg->veil0_mac, 6);
	__builtin_memcpy(data + 6, cfg->veil0p_mac, 6);
	*(__be16 *)(data + 12) = veil_inner_proto(data + VEIL_ETH_LEN);
	return VEIL_OK_OPEN;
}

/* What a failed frame's reason becomes: while a stream is being set up, a body of a handshake's length is keyd's
 * (VEIL_CIRCUIT_F_HS_GRACE). Such a body looks random, so it may fail at any check up to the tag. */
static __always_inline __u32 veil_open_grace(__u32 reason, __u32 flags, __u32 payload)
{
	if (!(flags & VEIL_CIRCUIT_F_HS_GRACE) || payload != VEIL_HS_LEN)
		return reason;
	if (reason != VEIL_DROP_STREAM_DOWN && reason != VEIL_DROP_STREAM_HDR && reason != VEIL_DROP_STREAM_AUTH)
		return reason;
	return VEIL_OK_CONTROL;
}

#endif

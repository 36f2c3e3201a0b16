/* SPDX-License-Identifier: Apache-2.0 */
/* The stream body of docs/protocol.md section 4 and where it stands in a packet. Include siphash.h first. */
#ifndef VEIL_STREAM_H
#define VEIL_STREAM_H

#include "contract.h"
#include "outer.h"
#include "siphash.h"

#define VEIL_BODY_OFF (VEIL_OUTER_LEN + VEIL_FRAME_LEN)	 /* 58 */
#define VEIL_TEXT_OFF (VEIL_BODY_OFF + VEIL_STREAM_LEN) /* 82 */

_Static_assert(VEIL_TEXT_OFF == VEIL_ETH_LEN + VEIL_OVERHEAD4, "room that sealing makes in front");

struct veil_stream_body { /* in front of the ciphertext */
	__u64 tag[2];
	__u64 shdr; /* masked */
} __attribute__((packed));

_Static_assert(sizeof(struct veil_stream_body) == VEIL_STREAM_LEN, "veil_stream_body");

static __always_inline __u64 veil_shdr(__u32 counter, __u32 pad, __u32 lane, __u32 flags)
{
	return (__u64)flags << 56 | (__u64)(lane & 0xff) << 48 | (__u64)(pad & 0xffff) << 32 | counter;
}

static __always_inline __u32 veil_shdr_counter(__u64 shdr)
{
	return shdr;
}

static __always_inline __u32 veil_shdr_pad(__u64 shdr)
{
	return shdr >> 32 & 0xffff;
}

static __always_inline __u32 veil_shdr_lane(__u64 shdr)
{
	return shdr >> 48 & 0xff;
}

static __always_inline __u32 veil_shdr_flags(__u64 shdr)
{
	return shdr >> 56;
}

/* ST3: tag and masked header at `at`. */
static __always_inline void veil_stream_write(void *at, const __u64 *hp, const __u64 *tag, __u64 shdr)
{
	struct veil_stream_body *body = at;

	body->tag[0] = tag[0];
	body->tag[1] = tag[1];
	body->shdr = shdr ^ veil_sip16(hp, tag[0], tag[1]);
}

/* A sealed frame that TC is to send: source address 02:00 and the interface's index, for veil_emit alone. */
static __always_inline void veil_emit_mark(__u8 *eth, const __u8 *dmac, __u32 ifindex)
{
	__builtin_memcpy(eth, dmac, 6);
	eth[6] = 2;
	eth[7] = 0;
	*(__u32 *)(eth + 8) = ifindex;
}

/* The interface's index of a marked frame, 0 if it bears no mark. */
static __always_inline __u32 veil_emit_marked(const __u8 *eth)
{
	return eth[6] == 2 && eth[7] == 0 ? *(const __u32 *)(eth + 8) : 0;
}

#endif

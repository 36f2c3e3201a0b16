/* SPDX-License-Identifier: Apache-2.0 */
/* Handshake datagrams on a direct link (docs/protocol.md KN3): a frame whose header holds label 0 and 40 bits of a
 * digest of the whole body. */
#ifndef VEIL_KNOCK_H
#define VEIL_KNOCK_H

#include "hop.h"
#include "outer.h"

/* 1 if the packet is as long as a handshake datagram, all of it readable from `frame` on. */
static __always_inline int veil_knock_shaped(const void *frame, const void *end, __u32 payload)
{
	return payload == VEIL_HS_LEN && frame + VEIL_HS_LEN <= end;
}

/* KN3: the header that belongs to the body: label 0, then the low 40 bits of the digest (the shift drops the rest). */
static __always_inline __u64 veil_knock_header(const __u64 *full, const void *body)
{
	return veil_sip_words(full, body, VEIL_HS_BODY_LEN / 8) << 24;
}

/* Slot (0 or 1) of `knock` whose tag verifies on `frame`, its header in `*header`; 2 if none does. */
static __always_inline __u32 veil_knock_slot(const struct veil_knock_key *knock, const struct veil_frame *frame,
					     __u64 *header)
{
#pragma unroll
	for (__u32 slot = 0; slot < 2; slot++) {
		/* mac and enc lie as in a link's key */
		const struct veil_sip_key *key = (const struct veil_sip_key *)knock[slot].mac;

		if (!knock[slot].valid)
			continue;
		*header = veil_hop_unmask(key, frame);
		if (veil_hop_verify(key, frame, *header))
			return slot;
	}
	return 2;
}

#endif

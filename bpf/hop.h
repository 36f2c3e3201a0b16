/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of docs/protocol.md section 3: tag, masked header, bound bytes. SIV mode (Rogaway, Shrimpton 2006) with
 * SipHash as PRF. Include siphash.h and contract.h first. */
#ifndef VEIL_HOP_H
#define VEIL_HOP_H

#include "contract.h"
#include "siphash.h"

struct veil_frame { /* first VEIL_FRAME_MIN bytes of the UDP payload */
	__u64 tag;
	__u64 header;
	__u64 body[2];
};

_Static_assert(sizeof(struct veil_frame) == VEIL_FRAME_MIN, "veil_frame");
_Static_assert(VEIL_HDR_LEN + VEIL_BIND_LEN == 15, "veil_sip15");

#define VEIL_LABEL_MASK 0xffffff

static __always_inline __u64 veil_header(__u32 label, __u32 budget, __u32 counter)
{
	return (__u64)counter << 32 | (__u64)(budget & 0xff) << 24 | (label & VEIL_LABEL_MASK);
}

static __always_inline __u32 veil_header_label(__u64 header)
{
	return header & VEIL_LABEL_MASK;
}

static __always_inline __u32 veil_header_budget(__u64 header)
{
	return header >> 24 & 0xff;
}

static __always_inline __u32 veil_header_counter(__u64 header)
{
	return header >> 32;
}

/* FR2 backwards: the header as it would be if the tag is right. It proves nothing until veil_hop_verify. */
static __always_inline __u64 veil_hop_unmask(const struct veil_sip_key *key, const struct veil_frame *frame)
{
	return frame->header ^ veil_sip8(key->enc, frame->tag);
}

/* FR1: 1 if the tag fits `header` and the bound bytes. */
static __always_inline int veil_hop_verify(const struct veil_sip_key *key, const struct veil_frame *frame, __u64 header)
{
	return veil_sip15(key->mac, header, frame->body[0]) == frame->tag;
}

/* FR1, FR2: write tag and masked header in front of the bound bytes. */
static __always_inline void veil_hop_seal(const struct veil_sip_key *key, struct veil_frame *frame, __u64 header)
{
	__u64 tag = veil_sip15(key->mac, header, frame->body[0]);

	frame->tag = tag;
	frame->header = header ^ veil_sip8(key->enc, tag);
}

/* Does `flag` of a map entry still have `value`? keyd takes an entry down before it wipes or changes its keys, so a key
 * was whole while it was used if the flag is up afterwards, too. x86 keeps the order of loads, and of stores. */
static __always_inline int veil_still(const __u32 *flag, __u32 value)
{
	asm volatile("" : : : "memory"); /* keys are read before, not after */
	return *(const volatile __u32 *)flag == value;
}

/* Take the next send counter of `tx` into `*counter`: 0 once it has reached its limit, so that none is used twice. */
static __always_inline int veil_hop_counter(struct veil_link_tx *tx, __u32 *counter)
{
	__u64 taken = __sync_fetch_and_add(&tx->counter, 1);

	*counter = taken;
	return taken < VEIL_COUNTER_LIMIT;
}

#endif

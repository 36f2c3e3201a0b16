/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of the relay rig's programs, pinned in VEIL_PINS by bench/netrig.py, which writes `bench_gen`. */
#ifndef BENCH_H
#define BENCH_H

#include "contract.h"
#include "siphash.h"
#include "outer.h"
#include "hop.h"

struct bench_gen { /* bench/netrig.py: class Gen */
	struct veil_addrs addrs;
	struct veil_l2 l2; /* next hop and device to send to */
	struct veil_sip_key key;
	__u64 counter;
	__u32 label;
	__u32 budget;
	__u32 payload; /* bytes of UDP payload */
	__u32 channel; /* TURN channel, network order */
	__u64 interval; /* ns between two frames of a paced generator */
	__u64 first;	/* ktime of the first one; bench/netrig.py sets it 0 */
	__u64 next;	/* ktime at which the next one is due */
	__u64 sessions; /* a power of two: the senders' ports and labels follow on the first ones */
};

_Static_assert(sizeof(struct bench_gen) == 152, "bench_gen");

BPF_TABLE_PINNED7("array", u32, struct bench_gen, bench_gen, 1, VEIL_PINS "/bench_gen", BPF_F_MMAPABLE);
BPF_TABLE_PINNED7("array", u32, u64, bench_sink, 1, VEIL_PINS "/bench_sink", BPF_F_MMAPABLE);

#endif

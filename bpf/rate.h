/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to keyd is bounded: token buckets by the generic cell rate algorithm (ITU-T I.371), one word of state.
 *
 * `*due` is when the next event would be due if they came evenly; an event that comes more than `burst` events ahead of
 * that is refused. Two CPUs at once may let one event too many through; nothing else can go wrong. */
#ifndef VEIL_RATE_H
#define VEIL_RATE_H

#include "contract.h"

#define VEIL_NS_PER_S 1000000000ULL

/* 1 if the event may pass; `now` in ns, 0 in `*due` is a full bucket. */
static __always_inline int veil_rate_take(__u64 *due, __u64 now, __u64 per_s, __u64 burst)
{
	__u64 period = VEIL_NS_PER_S / per_s, next = *(volatile __u64 *)due;

	if (next < now)
		next = now;
	if (next - now > (burst - 1) * period)
		return 0;
	*(volatile __u64 *)due = next + period;
	return 1;
}

/* 1 if part `part` of the event ring has room for one event more, which is then counted in. */
static __always_inline int veil_share_take(struct veil_event_share *share, __u32 part, __u64 limit)
{
	__u64 taken = *(volatile __u64 *)&share->taken[part];

	if (*(volatile __u64 *)&share->raised[part] - taken >= limit)
		return 0;
	__sync_fetch_and_add(&share->raised[part], 1);
	return 1;
}

#endif

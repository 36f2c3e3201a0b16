/* SPDX-License-Identifier: Apache-2.0 */
/* The one exit of every program: a reason is counted, then becomes a verdict.
 *
 * PASS hands the packet to the kernel as it came in. With config.dark a packet that failed one of VeilNet's checks is
 * dropped instead; a packet that was never ours (ARP, TCP, another UDP port) still passes, or dark would cut the
 * host off.
 */
#ifndef VEIL_VERDICT_H
#define VEIL_VERDICT_H

#include "contract.h"

#define VEIL_IS_PASS_OK 0ULL
#define VEIL_IS_PASS_PASS 1ULL
#define VEIL_IS_PASS_DROP 0ULL
#define VEIL_IS_OK_OK 1ULL
#define VEIL_IS_OK_PASS 0ULL
#define VEIL_IS_OK_DROP 0ULL

/* Sets of reasons as bit masks: bcc loads no constant tables. */
#define VEIL_PASS_BIT(name, klass, text) | (VEIL_IS_PASS_##klass << VEIL_##name)
#define VEIL_OK_BIT(name, klass, text) | (VEIL_IS_OK_##klass << VEIL_##name)
#define VEIL_PASS_SET (0ULL VEIL_REASONS(VEIL_PASS_BIT))
#define VEIL_OK_SET (0ULL VEIL_REASONS(VEIL_OK_BIT))
/* failed checks: what dark drops; PASS_NO_LINK joins them on the knock port only, see the entry file */
#define VEIL_DARK_SET                                                                                    \
	(1ULL << VEIL_PASS_NO_LINK | 1ULL << VEIL_PASS_KNOCK_TAG | 1ULL << VEIL_PASS_KNOCK_BODY |         \
	 1ULL << VEIL_PASS_KNOCK_REPLAY | 1ULL << VEIL_PASS_LINK_TAG | 1ULL << VEIL_PASS_LINK_REPLAY)

_Static_assert(VEIL_REASON_MAX <= 64, "reasons fit a 64-bit set");

/* Count `reason` in `count` (its entry of the per-CPU map `reasons`; null is not counted) and return the XDP verdict.
 * `action` is the verdict of an OK reason; `dark` drops failed checks. */
static __always_inline int veil_verdict(__u64 *count, __u32 reason, int action, __u32 dark)
{
	__u64 bit = 1ULL << (reason & 63);

	if (count)
		*count += 1;
	if (bit & VEIL_OK_SET)
		return action;
	if (bit & VEIL_PASS_SET)
		return dark && (bit & VEIL_DARK_SET) ? XDP_DROP : XDP_PASS;
	return XDP_DROP;
}

#endif

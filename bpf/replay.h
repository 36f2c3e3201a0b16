/* SPDX-License-Identifier: Apache-2.0 */
/* Replay window without a lock, shared by all CPUs.
 *
 * A word is `block << 32 | bits`: 32 consecutive counters, bit i for counter block * 32 + i. Block b lives in word
 * b mod words, and a word's block only grows, so a counter that was taken once is refused for ever: either its bit is
 * set, or its word has moved on to a higher block. Accepts every fresh counter less than (words - 1) * 32 behind the
 * newest. Bitmap over blocks after RFC 6479; one compare-and-swap takes the place of its lock.
 */
#ifndef VEIL_REPLAY_H
#define VEIL_REPLAY_H

#define VEIL_REPLAY_TRIES 4 /* another CPU changed the same word in between; each loss means somebody else's gain */

/* The word that takes `counter`, or 0 when `word` refuses it (seen before or too old). */
static __always_inline __u64 veil_replay_next(__u64 word, __u32 counter)
{
	__u64 block = counter >> 5, bit = 1ULL << (counter & 31);

	if (word >> 32 == block)
		return word & bit ? 0 : word | bit;
	return word >> 32 < block ? block << 32 | bit : 0;
}

/* 1 if `counter` would be taken now. Writes nothing. `words` is a power of two, known to the compiler. */
static __always_inline int veil_replay_check(const __u64 *win, __u32 words, __u32 counter)
{
	return veil_replay_next(win[(counter >> 5) & (words - 1)], counter) != 0;
}

/* Take `counter`: 1 for the one caller that got it, 0 if it was seen before or is too old. Call only after the frame
 * has authenticated. Losing VEIL_REPLAY_TRIES races in a row refuses a fresh counter, which costs one frame. */
static __always_inline int veil_replay_take(__u64 *win, __u32 words, __u32 counter)
{
	__u64 *slot = &win[(counter >> 5) & (words - 1)];
	__u64 word = *(volatile __u64 *)slot;

#pragma unroll
	for (int i = 0; i < VEIL_REPLAY_TRIES; i++) {
		__u64 next = veil_replay_next(word, counter), was;

		if (!next)
			return 0;
		was = __sync_val_compare_and_swap(slot, word, next);
		if (was == word)
			return 1;
		word = was;
	}
	return 0;
}

#endif

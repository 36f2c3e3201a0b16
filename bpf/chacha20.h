/* SPDX-License-Identifier: Apache-2.0 */
/* ChaCha20 (RFC 8439 sections 2.3, 2.4) over the rest of a packet.
 *
 * The rounds come from chacha20_asm.h; -DVEIL_CHACHA20_C takes the C twin below instead.
 */
#ifndef VEIL_CHACHA20_H
#define VEIL_CHACHA20_H

#include "chacha20_asm.h"

#define VEIL_CHACHA20_BLOCK 64
#define VEIL_CHACHA20_TURNS 10 /* double rounds */

#define VEIL_CHACHA20_WORDS 16

struct veil_chacha20 {
	__u32 x[2 * VEIL_CHACHA20_WORDS]; /* two blocks; one alone stands in the second half */
	__u64 turns; /* the assembly counts down here */
};

/* What one packet is enciphered under; `counter` is that of the next block. */
struct veil_chacha20_key {
	const __u32 *key; /* eight words, in a map value or in the packet */
	__u32 nonce[3];
};

static __always_inline __u32 veil_rotl32(__u32 x, int n)
{
	return (x << n) | (x >> (32 - n));
}

static __always_inline void veil_chacha20_quarter(__u32 *x, int a, int b, int c, int d)
{
	x[a] += x[b];
	x[d] = veil_rotl32(x[d] ^ x[a], 16);
	x[c] += x[d];
	x[b] = veil_rotl32(x[b] ^ x[c], 12);
	x[a] += x[b];
	x[d] = veil_rotl32(x[d] ^ x[a], 8);
	x[c] += x[d];
	x[b] = veil_rotl32(x[b] ^ x[c], 7);
}

static __always_inline void veil_chacha20_rounds_c(__u32 *x)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < VEIL_CHACHA20_TURNS; i++) {
		veil_chacha20_quarter(x, 0, 4, 8, 12);
		veil_chacha20_quarter(x, 1, 5, 9, 13);
		veil_chacha20_quarter(x, 2, 6, 10, 14);
		veil_chacha20_quarter(x, 3, 7, 11, 15);
		veil_chacha20_quarter(x, 0, 5, 10, 15);
		veil_chacha20_quarter(x, 1, 6, 11, 12);
		veil_chacha20_quarter(x, 2, 7, 8, 13);
		veil_chacha20_quarter(x, 3, 4, 9, 14);
	}
}

/* The rounds over one block at `x`, one of the halves of s->x. */
static __always_inline void veil_chacha20_rounds(struct veil_chacha20 *s, __u32 *x)
{
#ifdef VEIL_CHACHA20_C
	veil_chacha20_rounds_c(x);
#else
	s->turns = VEIL_CHACHA20_TURNS;
	veil_chacha20_rounds_asm(x, &s->turns);
#endif
}

static __always_inline void veil_chacha20_rounds2(struct veil_chacha20 *s)
{
#ifdef VEIL_CHACHA20_C
	veil_chacha20_rounds_c(s->x);
	veil_chacha20_rounds_c(s->x + VEIL_CHACHA20_WORDS);
#else
	s->turns = VEIL_CHACHA20_TURNS;
	veil_chacha20_rounds2_asm(s->x, &s->turns);
#endif
}

/* Word i of the initial state, i a constant. */
static __always_inline __u32 veil_chacha20_init(const struct veil_chacha20_key *k, __u32 counter, int i)
{
	const __u32 sigma[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

	if (i < 4)
		return sigma[i];
	if (i < 12)
		return k->key[i - 4];
	return i == 12 ? counter : k->nonce[i - 13];
}

/* The same key through a pointer that the compiler knows nothing about: it would otherwise keep the address of every
 * word on the stack across the assembly. */
static __always_inline struct veil_chacha20_key veil_chacha20_fresh(const struct veil_chacha20_key *k)
{
	struct veil_chacha20_key fresh = *k;

	asm volatile("" : "+r"(fresh.key));
	return fresh;
}

/* Key stream of block `counter` at `x`, but for the final addition of the initial state. */
static __always_inline void veil_chacha20_core(struct veil_chacha20 *s, const struct veil_chacha20_key *k, __u32 counter)
{
	struct veil_chacha20_key fresh = veil_chacha20_fresh(k);

#pragma unroll
	for (int i = 0; i < VEIL_CHACHA20_WORDS; i++)
		s->x[VEIL_CHACHA20_WORDS + i] = veil_chacha20_init(&fresh, counter, i);
	veil_chacha20_rounds(s, s->x + VEIL_CHACHA20_WORDS);
}

/* The same of block `counter` and the next in both halves. */
static __always_inline void veil_chacha20_core2(struct veil_chacha20 *s, const struct veil_chacha20_key *k, __u32 counter)
{
	struct veil_chacha20_key fresh = veil_chacha20_fresh(k);

#pragma unroll
	for (int i = 0; i < VEIL_CHACHA20_WORDS; i++) {
		__u32 word = veil_chacha20_init(&fresh, counter, i);

		s->x[i] = word;
		s->x[VEIL_CHACHA20_WORDS + i] = i == 12 ? counter + 1 : word;
	}
	veil_chacha20_rounds2(s);
}

/* Key stream of block `counter` in s->x. */
static __always_inline void veil_chacha20_block(struct veil_chacha20 *s, const struct veil_chacha20_key *k, __u32 counter)
{
	struct veil_chacha20_key fresh;

	veil_chacha20_core(s, k, counter);
	fresh = veil_chacha20_fresh(k);
#pragma unroll
	for (int i = 0; i < VEIL_CHACHA20_WORDS; i++)
		s->x[i] = s->x[VEIL_CHACHA20_WORDS + i] + veil_chacha20_init(&fresh, counter, i);
}

/* 64 bytes at `p`, with the key stream at `x` and its final addition. */
static __always_inline void veil_chacha20_whole(const __u32 *x, const struct veil_chacha20_key *k, __u32 counter, __u8 *p)
{
	struct veil_chacha20_key fresh = veil_chacha20_fresh(k);

#pragma unroll
	for (int i = 0; i < VEIL_CHACHA20_WORDS; i++)
		((__u32 *)p)[i] ^= x[i] + veil_chacha20_init(&fresh, counter, i);
}

/* The last block, 1 to 63 bytes: words, then what is left of a word. */
static __always_inline void veil_chacha20_tail(const __u32 *x, const struct veil_chacha20_key *k, __u32 counter, __u8 *p,
					       void *end)
{
	struct veil_chacha20_key fresh = veil_chacha20_fresh(k);
	__u32 t = 0;

#pragma unroll
	for (int i = 0; i < VEIL_CHACHA20_WORDS; i++) {
		t = x[i] + veil_chacha20_init(&fresh, counter, i);
		asm volatile("" : "+r"(p), "+r"(end));
		if ((void *)(p + 4) > end)
			break;
		*(__u32 *)p ^= t;
		p += 4;
	}
	asm volatile("" : "+r"(p), "+r"(end));
	if ((void *)(p + 2) <= end) {
		*(__u16 *)p ^= t;
		t >>= 16;
		p += 2;
	}
	asm volatile("" : "+r"(p), "+r"(end));
	if ((void *)(p + 1) <= end)
		*p ^= t;
}

/* Encipher or decipher [p, end) in place, block counter from 1, two blocks at a time; at most `blocks` blocks (a
 * constant). */
static __always_inline void veil_chacha20_xor(struct veil_chacha20 *s, const struct veil_chacha20_key *k, __u8 *p, void *end,
					      __u32 blocks)
{
	__u32 *last = s->x + VEIL_CHACHA20_WORDS;

#pragma clang loop unroll(disable)
	for (__u32 n = 1; n <= blocks; n += 2) {
		__u32 counter = n;

		asm volatile("" : "+r"(p), "+r"(end));
		if ((void *)(p + 1) > end)
			return;
		asm volatile("" : "+r"(p), "+r"(end));
		if ((void *)(p + VEIL_CHACHA20_BLOCK + 1) > end) {
			veil_chacha20_core(s, k, n);
			n = blocks; /* the verifier would not see that nothing is left */
		} else {
			veil_chacha20_core2(s, k, n);
			asm volatile("" : "+r"(p), "+r"(end));
			if ((void *)(p + VEIL_CHACHA20_BLOCK) > end)
				return;
			veil_chacha20_whole(s->x, k, n, p);
			p += VEIL_CHACHA20_BLOCK;
			counter++;
		}
		asm volatile("" : "+r"(p), "+r"(end));
		if ((void *)(p + VEIL_CHACHA20_BLOCK) > end) {
			veil_chacha20_tail(last, k, counter, p, end);
			return;
		}
		veil_chacha20_whole(last, k, counter, p);
		p += VEIL_CHACHA20_BLOCK;
	}
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 with 64-bit output (Aumasson, Bernstein 2012), on little-endian 64-bit words.
 *
 * Messages are whole words, so that the last block holds the length alone, but for veil_sip15's. All functions return the
 * tag as a little-endian word; `k` is the 16-byte key as two words.
 */
#ifndef VEIL_SIPHASH_H
#define VEIL_SIPHASH_H

#define VEIL_SIP_WORDS_MAX 152 /* VEIL_HS_BODY_LEN / 8 */

struct veil_sip {
	__u64 v0, v1, v2, v3;
};

/* x = rotl(x, l), r = 64 - l, through the scratch register %4 */
#define VEIL_SIP_ROTL(x, l, r) "%4 = " x "\n%4 >>= " #r "\n" x " <<= " #l "\n" x " |= %4\n"

/* SipRound in the 32 instructions it takes: the compiler needs 40 for the same C, with spills in between, and a hop runs
 * 32 rounds. The six rotations are all of its rotl64; `s` stays in registers. */
static __always_inline void veil_sip_round(struct veil_sip *s)
{
	__u64 scratch;

	asm volatile("%0 += %1\n"
		     "%2 += %3\n" VEIL_SIP_ROTL("%1", 13, 51) VEIL_SIP_ROTL("%3", 16, 48)
		     "%1 ^= %0\n" VEIL_SIP_ROTL("%0", 32, 32)
		     "%3 ^= %2\n"
		     "%2 += %1\n"
		     "%0 += %3\n" VEIL_SIP_ROTL("%1", 17, 47) VEIL_SIP_ROTL("%3", 21, 43)
		     "%1 ^= %2\n" VEIL_SIP_ROTL("%2", 32, 32)
		     "%3 ^= %0\n"
		     : "+r"(s->v0), "+r"(s->v1), "+r"(s->v2), "+r"(s->v3), "=&r"(scratch));
}

static __always_inline void veil_sip_init(struct veil_sip *s, const __u64 *k)
{
	s->v0 = k[0] ^ 0x736f6d6570736575ULL;
	s->v1 = k[1] ^ 0x646f72616e646f6dULL;
	s->v2 = k[0] ^ 0x6c7967656e657261ULL;
	s->v3 = k[1] ^ 0x7465646279746573ULL;
}

static __always_inline void veil_sip_word(struct veil_sip *s, __u64 m)
{
	s->v3 ^= m;
	veil_sip_round(s);
	veil_sip_round(s);
	s->v0 ^= m;
}

/* A round and v0 ^ v1 ^ v2 ^ v3 of what it leaves. Its second half needs no v0, which cancels out: 28 instructions. */
static __always_inline __u64 veil_sip_round_sum(struct veil_sip *s)
{
	__u64 scratch;

	asm volatile("%0 += %1\n"
		     "%2 += %3\n" VEIL_SIP_ROTL("%1", 13, 51) VEIL_SIP_ROTL("%3", 16, 48)
		     "%1 ^= %0\n"
		     "%3 ^= %2\n"
		     "%2 += %1\n" VEIL_SIP_ROTL("%1", 17, 47) VEIL_SIP_ROTL("%3", 21, 43)
		     "%1 ^= %2\n" VEIL_SIP_ROTL("%2", 32, 32)
		     "%3 ^= %2\n"
		     "%1 ^= %3\n"
		     : "+r"(s->v0), "+r"(s->v1), "+r"(s->v2), "+r"(s->v3), "=&r"(scratch));
	return s->v1;
}

/* The last word: up to seven bytes of message, and the length's low 8 bits on top. */
static __always_inline __u64 veil_sip_last(struct veil_sip *s, __u64 word)
{
	veil_sip_word(s, word);
	s->v2 ^= 0xff;
	veil_sip_round(s);
	veil_sip_round(s);
	veil_sip_round(s);
	return veil_sip_round_sum(s);
}

/* `len`: bytes of the whole message, a multiple of 8. */
static __always_inline __u64 veil_sip_end(struct veil_sip *s, __u64 len)
{
	return veil_sip_last(s, len << 56);
}

static __always_inline __u64 veil_sip8(const __u64 *k, __u64 m)
{
	struct veil_sip s;

	veil_sip_init(&s, k);
	veil_sip_word(&s, m);
	return veil_sip_end(&s, 8);
}

static __always_inline __u64 veil_sip16(const __u64 *k, __u64 m0, __u64 m1)
{
	struct veil_sip s;

	veil_sip_init(&s, k);
	veil_sip_word(&s, m0);
	veil_sip_word(&s, m1);
	return veil_sip_end(&s, 16);
}

/* 15 bytes: `m0` and the low seven bytes of `m1`, which share their word with the length. */
static __always_inline __u64 veil_sip15(const __u64 *k, __u64 m0, __u64 m1)
{
	struct veil_sip s;

	veil_sip_init(&s, k);
	veil_sip_word(&s, m0);
	return veil_sip_last(&s, (m1 << 8 >> 8) | 15ULL << 56);
}

/* `n` words at `p`, n <= VEIL_SIP_WORDS_MAX and best a constant: the caller has checked that all of them lie inside the
 * packet. `p` needs no alignment. */
static __always_inline __u64 veil_sip_words(const __u64 *k, const __u64 *p, __u32 n)
{
	struct veil_sip s;

	veil_sip_init(&s, k);
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < VEIL_SIP_WORDS_MAX && i < n; i++)
		veil_sip_word(&s, p[i]);
	return veil_sip_end(&s, 8 * (__u64)n);
}

#endif

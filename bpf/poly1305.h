/* SPDX-License-Identifier: Apache-2.0 */
/* Poly1305 (RFC 8439 section 2.5) with limbs of 32, 32, 32 and 34 bits.
 *
 * r is clamped, so the low two bits of r1, r2, r3 are 0 and 2^128 * r_j = 2^130 * (r_j / 4) = 5 * (r_j / 4) mod p: that
 * is s_j. With h0, h1, h2 < 2^33 + 2 and h3 < 1.5 * 2^34 every sum of four products stays below 7.3 * 2^61.
 */
#ifndef VEIL_POLY1305_H
#define VEIL_POLY1305_H

#define VEIL_POLY1305_BLOCK 16
#define VEIL_POLY1305_HIBIT (1ULL << 32) /* 2^128, seen from the last limb */
#define VEIL_LIMB32 0xffffffffULL
#define VEIL_LIMB34 0x3ffffffffULL

struct veil_poly1305 {
	__u64 h0, h1, h2, h3;
	__u64 r0, r1, r2, r3;
	__u64 s1, s2, s3;
};

/* `key`: r as four words, not yet clamped. */
static __always_inline void veil_poly1305_init(struct veil_poly1305 *p, const __u32 *key)
{
	p->h0 = p->h1 = p->h2 = p->h3 = 0;
	p->r0 = key[0] & 0x0fffffff;
	p->r1 = key[1] & 0x0ffffffc;
	p->r2 = key[2] & 0x0ffffffc;
	p->r3 = key[3] & 0x0ffffffc;
	p->s1 = p->r1 + (p->r1 >> 2);
	p->s2 = p->r2 + (p->r2 >> 2);
	p->s3 = p->r3 + (p->r3 >> 2);
}

/* Carry d0..d3 into h: two chains side by side, h0 to h2 and h2 to h0 over the modulus. */
static __always_inline void veil_poly1305_carry(struct veil_poly1305 *p, __u64 d0, __u64 d1, __u64 d2, __u64 d3)
{
	d1 += d0 >> 32;
	d3 += d2 >> 32;
	d0 = (d0 & VEIL_LIMB32) + 5 * (d3 >> 34);
	d2 = (d2 & VEIL_LIMB32) + (d1 >> 32);
	d3 &= VEIL_LIMB34;
	d1 &= VEIL_LIMB32;
	p->h0 = d0 & VEIL_LIMB32;
	p->h1 = d1 + (d0 >> 32);
	p->h2 = d2 & VEIL_LIMB32;
	p->h3 = d3 + (d2 >> 32);
}

/* One block as four limbs, the last one with its high bit. */
static __always_inline void veil_poly1305_limbs(struct veil_poly1305 *p, __u64 h0, __u64 h1, __u64 h2, __u64 h3)
{
	h0 += p->h0;
	h1 += p->h1;
	h2 += p->h2;
	h3 += p->h3;
	veil_poly1305_carry(p, h0 * p->r0 + h1 * p->s3 + h2 * p->s2 + h3 * p->s1,
			    h0 * p->r1 + h1 * p->r0 + h2 * p->s3 + h3 * p->s2,
			    h0 * p->r2 + h1 * p->r1 + h2 * p->r0 + h3 * p->s3,
			    h0 * p->r3 + h1 * p->r2 + h2 * p->r1 + h3 * p->r0);
}

/* One block as two little-endian words; `hibit` is VEIL_POLY1305_HIBIT for every whole block. */
static __always_inline void veil_poly1305_block(struct veil_poly1305 *p, __u64 m0, __u64 m1, __u64 hibit)
{
	veil_poly1305_limbs(p, m0 & VEIL_LIMB32, m0 >> 32, m1 & VEIL_LIMB32, (m1 >> 32) + hibit);
}

/* Fewer than 8 bytes, [p, end), as a word padded with zeros. */
static __always_inline __u64 veil_load_rest(const __u8 *p, const void *end)
{
	__u64 t = 0;
	__u32 shift = 0;

	asm volatile("" : "+r"(p), "+r"(end));
	if ((void *)(p + 4) <= end) {
		t = *(const __u32 *)p;
		shift = 32;
		p += 4;
	}
	asm volatile("" : "+r"(p), "+r"(end));
	if ((void *)(p + 2) <= end) {
		t |= (__u64)*(const __u16 *)p << shift;
		shift += 16;
		p += 2;
	}
	asm volatile("" : "+r"(p), "+r"(end));
	if ((void *)(p + 1) <= end)
		t |= (__u64)*p << shift;
	return t;
}

/* [m, end), at most `blocks` blocks (a constant), the last one padded with zeros as RFC 8439 section 2.8 has it. */
static __always_inline void veil_poly1305_body(struct veil_poly1305 *p, const __u8 *m, const void *end, __u32 blocks)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < blocks; i++) {
		asm volatile("" : "+r"(m), "+r"(end));
		if ((void *)(m + VEIL_POLY1305_BLOCK) > end)
			break;
		veil_poly1305_limbs(p, ((const __u32 *)m)[0], ((const __u32 *)m)[1], ((const __u32 *)m)[2],
				    ((const __u32 *)m)[3] + VEIL_POLY1305_HIBIT);
		m += VEIL_POLY1305_BLOCK;
	}
	asm volatile("" : "+r"(m), "+r"(end));
	if ((void *)(m + 1) > end)
		return;
	asm volatile("" : "+r"(m), "+r"(end));
	if ((void *)(m + 8) <= end)
		veil_poly1305_block(p, *(const __u64 *)m, veil_load_rest(m + 8, end), VEIL_POLY1305_HIBIT);
	else
		veil_poly1305_block(p, veil_load_rest(m, end), 0, VEIL_POLY1305_HIBIT);
}

/* h mod p, without a branch on secret data. */
static __always_inline void veil_poly1305_reduce(struct veil_poly1305 *p)
{
	__u64 g0, g1, g2, g3, mask;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		p->h1 += p->h0 >> 32;
		p->h0 &= VEIL_LIMB32;
		p->h2 += p->h1 >> 32;
		p->h1 &= VEIL_LIMB32;
		p->h3 += p->h2 >> 32;
		p->h2 &= VEIL_LIMB32;
		p->h0 += 5 * (p->h3 >> 34);
		p->h3 &= VEIL_LIMB34;
	}
	g0 = p->h0 + 5;
	g1 = p->h1 + (g0 >> 32);
	g2 = p->h2 + (g1 >> 32);
	g3 = p->h3 + (g2 >> 32);
	mask = 0 - (g3 >> 34);
	p->h0 = (p->h0 & ~mask) | (g0 & mask);
	p->h1 = (p->h1 & ~mask) | (g1 & mask);
	p->h2 = (p->h2 & ~mask) | (g2 & mask);
	p->h3 = (p->h3 & ~mask) | (g3 & mask);
}

/* tag = (h mod p) + s mod 2^128, as two words; `s` is the second half of the key. */
static __always_inline void veil_poly1305_end(struct veil_poly1305 *p, const __u32 *s, __u64 *tag)
{
	__u64 t0, t1, t2, t3;

	veil_poly1305_reduce(p);
	t0 = (p->h0 & VEIL_LIMB32) + s[0];
	t1 = (p->h1 & VEIL_LIMB32) + s[1] + (t0 >> 32);
	t2 = (p->h2 & VEIL_LIMB32) + s[2] + (t1 >> 32);
	t3 = (p->h3 & VEIL_LIMB32) + s[3] + (t2 >> 32);
	tag[0] = (t0 & VEIL_LIMB32) | t1 << 32;
	tag[1] = (t2 & VEIL_LIMB32) | t3 << 32;
}

#endif

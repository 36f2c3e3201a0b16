/* SPDX-License-Identifier: Apache-2.0 */
/* ChaCha20-Poly1305 (RFC 8439 section 2.8) over the end of an XDP packet, in place.
 *
 * The text is [data + off, data_end), off a constant, at most VEIL_INNER_MAX bytes. Each phase loads the packet pointers
 * anew: pointers kept over a loop carry what the verifier learnt on each way out of it, and the next loop would be walked
 * once for each of them.
 */
#ifndef VEIL_AEAD_H
#define VEIL_AEAD_H

#include "chacha20.h"
#include "contract.h"
#include "poly1305.h"

#define VEIL_AEAD_CHACHA_BLOCKS (VEIL_INNER_MAX / VEIL_CHACHA20_BLOCK)
#define VEIL_AEAD_POLY_BLOCKS (VEIL_INNER_MAX / VEIL_POLY1305_BLOCK)

struct veil_aead {
	struct veil_chacha20_key key;
	__u64 aad[2]; /* padded with zeros */
	__u64 aad_len;
	__u32 pad[4]; /* second half of the Poly1305 key */
	struct veil_poly1305 mac;
};

static __always_inline void *veil_data(struct xdp_md *ctx)
{
	return (void *)(long)*(volatile __u32 *)&ctx->data;
}

static __always_inline void *veil_data_end(struct xdp_md *ctx)
{
	return (void *)(long)*(volatile __u32 *)&ctx->data_end;
}

/* ST1: nonce = 0^4, counter as 64 bits; AAD = the eight bytes of the stream header. */
static __always_inline void veil_aead_init(struct veil_aead *a, const __u32 *key, __u32 counter, __u64 shdr)
{
	a->key.key = key;
	a->key.nonce[0] = 0;
	a->key.nonce[1] = counter;
	a->key.nonce[2] = 0;
	a->aad[0] = shdr;
	a->aad[1] = 0;
	a->aad_len = VEIL_SHDR_LEN;
}

/* Section 2.6: the first half of block 0 is the Poly1305 key. */
static __always_inline void veil_aead_otk(struct veil_aead *a, struct veil_chacha20 *s)
{
	veil_chacha20_block(s, &a->key, 0);
	veil_poly1305_init(&a->mac, s->x);
	a->pad[0] = s->x[4];
	a->pad[1] = s->x[5];
	a->pad[2] = s->x[6];
	a->pad[3] = s->x[7];
}

static __always_inline void veil_aead_tag(struct veil_aead *a, struct xdp_md *ctx, __u32 off, __u64 *tag)
{
	__u8 *data = veil_data(ctx);
	void *end = veil_data_end(ctx);
	__u64 len = (long)end - (long)data - off;

	if (a->aad_len)
		veil_poly1305_block(&a->mac, a->aad[0], a->aad[1], VEIL_POLY1305_HIBIT);
	veil_poly1305_body(&a->mac, data + off, end, VEIL_AEAD_POLY_BLOCKS);
	veil_poly1305_block(&a->mac, a->aad_len, len, VEIL_POLY1305_HIBIT);
	veil_poly1305_end(&a->mac, a->pad, tag);
}

static __always_inline void veil_aead_cipher(struct veil_aead *a, struct veil_chacha20 *s, struct xdp_md *ctx,
					     __u32 off)
{
	veil_chacha20_xor(s, &a->key, (__u8 *)veil_data(ctx) + off, veil_data_end(ctx), VEIL_AEAD_CHACHA_BLOCKS);
}

/* Encipher, then set `tag`. */
static __always_inline void veil_aead_seal(struct veil_aead *a, struct veil_chacha20 *s, struct xdp_md *ctx,
					   __u32 off, __u64 *tag)
{
	veil_aead_otk(a, s);
	veil_aead_cipher(a, s, ctx, off);
	veil_aead_tag(a, ctx, off, tag);
}

/* Nonzero if `tag` is not the text's; the text stays enciphered: veil_aead_cipher deciphers it. */
static __always_inline __u64 veil_aead_check(struct veil_aead *a, struct veil_chacha20 *s, struct xdp_md *ctx,
					     __u32 off, const __u64 *tag)
{
	__u64 own[2];

	veil_aead_otk(a, s);
	veil_aead_tag(a, ctx, off, own);
	return (own[0] ^ tag[0]) | (own[1] ^ tag[1]);
}

#endif

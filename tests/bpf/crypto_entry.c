/* SPDX-License-Identifier: Apache-2.0 */
/* Entry programs for tests of the pure crypto headers: arguments and results stand in the packet, see test_crypto.py's
 * `Args`. Every program returns 2 when it ran, 1 when a tag was refused, 0 on a packet too short. */
#include <uapi/linux/bpf.h>
#include "contract.h"
#include "siphash.h"
#include "aead.h"

struct args {
	__u32 key[8];
	__u32 nonce[3];
	__u32 counter;
	__u64 aad[2];
	__u64 aad_len;
	__u64 tag[2];
	__u64 words;
	__u8 text[];
};

#define TEXT 96
_Static_assert(sizeof(struct args) == TEXT, "text offset");

static __always_inline struct args *load(struct xdp_md *ctx, __u32 text)
{
	void *data = veil_data(ctx);

	return data + TEXT + text > veil_data_end(ctx) ? NULL : data;
}

/* The key moves to the stack: where it is used it has to lie outside the packet, as it does in a map. */
static __always_inline void take(struct veil_aead *a, const struct args *p, __u32 *key)
{
#pragma unroll
	for (int i = 0; i < 8; i++)
		key[i] = p->key[i];
	a->key.key = key;
#pragma unroll
	for (int i = 0; i < 3; i++)
		a->key.nonce[i] = p->nonce[i];
	a->aad[0] = p->aad[0];
	a->aad[1] = p->aad[1];
	a->aad_len = p->aad_len;
}

int sip(struct xdp_md *ctx)
{
	struct args *p = load(ctx, VEIL_HS_BODY_LEN);
	__u64 key[2], *m;

	if (!p)
		return 0;
	m = (void *)p->text;
	key[0] = *(__u64 *)p->key;
	key[1] = *(__u64 *)(p->key + 2);
	p->aad[0] = veil_sip8(key, m[0]);
	p->aad[1] = veil_sip16(key, m[0], m[1]);
	p->tag[0] = veil_sip15(key, m[0], m[1]);
	p->tag[1] = veil_sip_words(key, m, p->words <= VEIL_SIP_WORDS_MAX ? p->words : 0);
	p->aad_len = veil_sip_words(key, m, VEIL_SIP_WORDS_MAX);
	return 2;
}

/* The state at text, twice: behind it the assembly's result, then the C twin's. */
int rounds(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 3 * VEIL_CHACHA20_BLOCK);
	struct veil_chacha20 s;
	__u32 x[16], *text;

	if (!p)
		return 0;
	text = (void *)p->text;
#pragma unroll
	for (int i = 0; i < 16; i++)
		s.x[i] = x[i] = text[i];
	s.turns = VEIL_CHACHA20_TURNS;
	veil_chacha20_rounds_asm(s.x, &s.turns);
	veil_chacha20_rounds_c(x);
#pragma unroll
	for (int i = 0; i < 16; i++) {
		text[16 + i] = s.x[i];
		text[32 + i] = x[i];
	}
	return 2;
}

/* Two states at text, twice: behind them the assembly's results, then the C twin's. */
int rounds2(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 6 * VEIL_CHACHA20_BLOCK);
	struct veil_chacha20 s;
	__u32 *text;

	if (!p)
		return 0;
	text = (void *)p->text;
#pragma unroll
	for (int i = 0; i < 2 * VEIL_CHACHA20_WORDS; i++)
		s.x[i] = text[i];
	s.turns = VEIL_CHACHA20_TURNS;
	veil_chacha20_rounds2_asm(s.x, &s.turns);
#pragma unroll
	for (int i = 0; i < 2 * VEIL_CHACHA20_WORDS; i++) {
		text[2 * VEIL_CHACHA20_WORDS + i] = s.x[i];
		s.x[i] = text[i];
	}
	veil_chacha20_rounds_c(s.x);
	veil_chacha20_rounds_c(s.x + VEIL_CHACHA20_WORDS);
#pragma unroll
	for (int i = 0; i < 2 * VEIL_CHACHA20_WORDS; i++)
		text[4 * VEIL_CHACHA20_WORDS + i] = s.x[i];
	return 2;
}

int block(struct xdp_md *ctx)
{
	struct args *p = load(ctx, VEIL_CHACHA20_BLOCK);
	struct veil_chacha20 s;
	struct veil_aead a;
	__u32 key[8];

	if (!p)
		return 0;
	take(&a, p, key);
	veil_chacha20_block(&s, &a.key, p->counter);
#pragma unroll
	for (int i = 0; i < 16; i++)
		((__u32 *)p->text)[i] = s.x[i];
	return 2;
}

/* Poly1305 alone: text is whole blocks; with `words` a last one follows from `aad`, its 1 bit already set. */
int poly1305(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 0);
	struct veil_poly1305 mac;
	__u64 tag[2];
	__u32 s[4];

	if (!p)
		return 0;
	veil_poly1305_init(&mac, p->key);
	veil_poly1305_body(&mac, p->text, veil_data_end(ctx), VEIL_AEAD_POLY_BLOCKS);
	p = load(ctx, 0);
	if (!p)
		return 0;
	if (p->words)
		veil_poly1305_block(&mac, p->aad[0], p->aad[1], 0);
#pragma unroll
	for (int i = 0; i < 4; i++)
		s[i] = p->key[4 + i];
	veil_poly1305_end(&mac, s, tag);
	p->tag[0] = tag[0];
	p->tag[1] = tag[1];
	return 2;
}

int seal(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 0);
	struct veil_chacha20 cipher;
	struct veil_aead a;
	__u32 key[8];
	__u64 tag[2];

	if (!p)
		return 0;
	take(&a, p, key);
	veil_aead_seal(&a, &cipher, ctx, TEXT, tag);
	p = load(ctx, 0);
	if (!p)
		return 0;
	p->tag[0] = tag[0];
	p->tag[1] = tag[1];
	return 2;
}

int open(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 0);
	struct veil_chacha20 cipher;
	struct veil_aead a;
	__u32 key[8];
	__u64 tag[2];

	if (!p)
		return 0;
	take(&a, p, key);
	tag[0] = p->tag[0];
	tag[1] = p->tag[1];
	if (veil_aead_check(&a, &cipher, ctx, TEXT, tag))
		return 1;
	veil_aead_cipher(&a, &cipher, ctx, TEXT);
	return 2;
}

/* For the benchmark: deciphers in any case, since a repeated run finds the text that the last one left. */
int open_any(struct xdp_md *ctx)
{
	struct args *p = load(ctx, 0);
	struct veil_chacha20 cipher;
	struct veil_aead a;
	__u32 key[8], refused;
	__u64 tag[2];

	if (!p)
		return 0;
	take(&a, p, key);
	tag[0] = p->tag[0];
	tag[1] = p->tag[1];
	refused = veil_aead_check(&a, &cipher, ctx, TEXT, tag) != 0;
	veil_aead_cipher(&a, &cipher, ctx, TEXT);
	return refused ? 1 : 2;
}

int empty(struct xdp_md *ctx)
{
	return load(ctx, 0) ? 2 : 0;
}

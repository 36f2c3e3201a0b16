/* SPDX-License-Identifier: Apache-2.0 */
/* Load generators, run with live frames: pages come back as the relay left them, so every byte that a relay may change
 * is written anew. */
#include <uapi/linux/bpf.h>
#include "bench.h"

/* The session of the counter-th frame: all of them as often, in no order that a relay could batch. */
static __always_inline __u32 bench_session(const struct bench_gen *gen, __u32 counter)
{
	return counter * 2654435761u >> 12 & (__u32)(gen->sessions - 1);
}

/* The outer headers of session `at`, whose sender has a port of its own. */
static __always_inline void bench_outer(void *data, const struct bench_gen *gen, __u32 at)
{
	struct veil_addrs addrs = gen->addrs;

	addrs.lport = __builtin_bswap16(__builtin_bswap16(addrs.lport) + at);
	veil_outer_write(data, &addrs, &gen->l2, gen->payload);
}

/* A frame as a VeilNet neighbour seals it: fresh counter, so that tag and replay window hold. Other relays under test
 * are offered the same, so that the generator costs the same. */
int bench_gen_veil(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, counter, at;
	struct bench_gen *gen = bench_gen.lookup(&zero);

	if (!gen || data + VEIL_OUTER_LEN + sizeof(struct veil_frame) > end)
		return XDP_DROP;
	counter = __sync_fetch_and_add(&gen->counter, 1);
	at = bench_session(gen, counter);
	bench_outer(data, gen, at);
	veil_hop_seal(&gen->key, data + VEIL_OUTER_LEN, veil_header(gen->label + at, gen->budget, counter));
	return bpf_redirect(gen->l2.ifindex, 0);
}

#define BENCH_LATE 2000000 /* ns: a generator that was held up so long does not catch up in one burst */

/* 1 if a frame is due. Between two frames the program drops what it is given and so waits. */
static __always_inline int bench_due(struct bench_gen *gen)
{
	__u64 now = bpf_ktime_get_ns();

	if (!gen->first)
		gen->first = now;
	if (now > gen->next + BENCH_LATE)
		gen->next = now;
	if (now < gen->next)
		return 0;
	gen->next += gen->interval;
	gen->counter++;
	return 1;
}

/* TURN ChannelData (RFC 8656 section 12.4) at a steady rate: channel 16 | length 16 | data. */
int bench_gen_turn(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0;
	struct bench_gen *gen = bench_gen.lookup(&zero);

	if (!gen || data + VEIL_OUTER_LEN + 4 > end || !bench_due(gen))
		return XDP_DROP;
	bench_outer(data, gen, bench_session(gen, gen->counter));
	*(__be16 *)(data + VEIL_OUTER_LEN) = gen->channel;
	*(__be16 *)(data + VEIL_OUTER_LEN + 2) = VEIL_BE16(gen->payload - 4);
	return bpf_redirect(gen->l2.ifindex, 0);
}

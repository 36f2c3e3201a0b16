/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of the scale: a relay that does nothing but redirect, and the sink behind every relay. */
#include <uapi/linux/bpf.h>
#include "bench.h"

#ifndef BENCH_OUT
#define BENCH_OUT 0
#endif

int bench_bare(struct xdp_md *ctx)
{
	return bpf_redirect(BENCH_OUT, 0);
}

/* Count UDP, drop everything. */
int bench_sink_udp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct veil_ip4 *ip = data + VEIL_OFF_IP;
	__u32 zero = 0;
	__u64 *count = bench_sink.lookup(&zero);

	if (count && data + VEIL_OUTER_LEN <= end && ip->ver_ihl == 0x45 && ip->proto == VEIL_PROTO_UDP)
		__sync_fetch_and_add(count, 1);
	return XDP_DROP;
}

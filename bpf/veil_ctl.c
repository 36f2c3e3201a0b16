/* SPDX-License-Identifier: Apache-2.0 */
/* Seals keyd's own frames: never attached, run by keyd through test_run over `struct veil_ctl_req ‖ body`. The request
 * becomes the frame header, so the result is the UDP payload to send. Counters are taken where the data plane takes
 * them; keyd never computes one.
 *
 * There is no MTU check: probes are longer than the link's MTU on purpose. */
#include <uapi/linux/bpf.h>
#include "contract.h"
#include "maps.h"
#include "verdict.h"
#include "siphash.h"
#include "outer.h"
#include "hop.h"

/* Write tag and masked header over the request. 0, or the reason to refuse; then the packet is as it was. */
static __always_inline __u32 seal(struct veil_frame *frame, struct veil_link *link, const struct veil_ctl_req *req)
{
	struct veil_link_tx *tx = &link->tx[link->tx_slot & 1];
	__u32 counter;

	if (req->label > VEIL_LABEL_MASK || req->budget > 255 || req->flags & ~VEIL_CTL_F_EMIT)
		return VEIL_DROP_CTL;
	if (link->state != VEIL_LINK_UP)
		return VEIL_DROP_LINK_DOWN;
	if (!veil_hop_counter(tx, &counter))
		return VEIL_DROP_EXHAUSTED;
	veil_hop_seal(&tx->key, frame, veil_header(req->label, req->budget, counter));
	link->tx_seen = bpf_jiffies64();
	return 0;
}

/* Build the outer headers in front and redirect to the NIC; with live frames the packet leaves. */
static __always_inline __u32 emit(struct xdp_md *ctx, struct veil_link *link, const struct veil_config *cfg, int *action)
{
	__u32 payload = ctx->data_end - ctx->data;
	__u32 reason = veil_l2_ready(ctx, &link->l2, &link->addrs, cfg, bpf_jiffies64());
	void *data;

	if (reason)
		return reason;
	if (bpf_xdp_adjust_head(ctx, -VEIL_OUTER_LEN))
		return VEIL_DROP_HEADROOM;
	data = (void *)(long)ctx->data;
	if (data + VEIL_OUTER_LEN > (void *)(long)ctx->data_end)
		return VEIL_DROP_INTERNAL;
	veil_outer_write(data, &link->addrs, &link->l2, payload);
	*action = bpf_redirect(link->l2.ifindex, 0);
	return 0;
}

static __always_inline __u32 control(struct xdp_md *ctx, const struct veil_config *cfg, int *action)
{
	struct veil_frame *frame = (void *)(long)ctx->data;
	struct veil_ctl_req req;
	struct veil_link *link;
	__u32 reason;

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end)
		return VEIL_DROP_CTL;
	req = *(struct veil_ctl_req *)frame;
	link = links.lookup(&req.link);
	if (!link || !req.link)
		return VEIL_DROP_CTL;
	reason = seal(frame, link, &req);
	if (!reason && req.flags & VEIL_CTL_F_EMIT)
		reason = emit(ctx, link, cfg, action);
	return reason ? reason : VEIL_OK_CTL;
}

int veil_ctl(struct xdp_md *ctx)
{
	__u32 zero = 0, reason = VEIL_DROP_INTERNAL;
	struct veil_config *cfg = config.lookup(&zero);
	int action = XDP_TX;

	if (cfg)
		reason = control(ctx, cfg, &action);
	return veil_verdict(reasons.lookup(&reason), reason, action, 0);
}

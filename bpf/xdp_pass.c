/* SPDX-License-Identifier: Apache-2.0 */
/* For veil0 and the lab's veth peers: on veth, redirected frames are delivered only to an end that runs a program. */
#include <uapi/linux/bpf.h>

int xdp_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

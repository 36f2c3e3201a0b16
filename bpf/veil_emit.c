/* SPDX-License-Identifier: Apache-2.0 */
/* TC ingress on veil0p, for hosts where an XDP redirect to the NIC is not proven to deliver: sends what veil_seal sealed
 * and marked, through the kernel's neighbour table. Whatever bears no mark is dropped: it did not pass veil_seal. */
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
#include "contract.h"
#include "maps.h"
#include "verdict.h"
#include "siphash.h"
#include "outer.h"
#include "stream.h"

/* bcc 0.26 declares bpf_redirect_neigh without its third argument */
static long (*redirect_neigh)(__u32 ifindex, struct bpf_redir_neigh *next, int len,
			      __u64 flags) = (void *)BPF_FUNC_redirect_neigh;

static __always_inline __u32 emit(struct __sk_buff *skb, int *action)
{
	__u8 *data = (void *)(long)skb->data;
	__u32 ifindex;

	if ((void *)(data + VEIL_ETH_LEN) > (void *)(long)skb->data_end)
		return VEIL_DROP_INNER_NOT_IP;
	ifindex = veil_emit_marked(data);
	if (!ifindex || skb->protocol != VEIL_BE16(0x0800))
		return VEIL_DROP_INNER_NOT_IP;
	*action = redirect_neigh(ifindex, NULL, 0, 0);
	return VEIL_OK_EMIT;
}

int veil_emit(struct __sk_buff *skb)
{
	int action = TC_ACT_SHOT;
	__u32 reason = emit(skb, &action);

	veil_verdict(reasons.lookup(&reason), reason, 0, 0);
	return action;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Every map of the data plane. An entry file includes this one; only entry files call maps, because bcc rewrites map
 * calls in the main file alone.
 *
 * VEIL_PINS is the pin directory, a string the loader gives with -D. A map is created by whoever comes first and opened
 * by the rest; a pinned map of another layout would be reused silently, so the directory's name carries a hash of
 * contract.h. Arrays that keyd reads and writes in place are mmapable. keyd_state is not declared here: BPF never
 * reads it.
 */
#ifndef VEIL_MAPS_H
#define VEIL_MAPS_H

#include "contract.h"

#ifndef VEIL_PINS
#error "VEIL_PINS names the pin directory"
#endif

#define VEIL_ARRAY(value, name, entries) \
	BPF_TABLE_PINNED7("array", u32, value, name, entries, VEIL_PINS "/" #name, BPF_F_MMAPABLE)

VEIL_ARRAY(struct veil_config, config, 1);
VEIL_ARRAY(struct veil_link_bucket, link_buckets, VEIL_LINK_BUCKETS);
VEIL_ARRAY(struct veil_link, links, VEIL_LINKS);
VEIL_ARRAY(struct veil_circuit, circuits, VEIL_LABELS);
VEIL_ARRAY(struct veil_stream, streams, VEIL_STREAMS);
VEIL_ARRAY(struct veil_event_share, event_share, 1);

/* 5-tuples whose bucket has no free way; key is struct veil_link_way with link 0, value the link */
BPF_TABLE_PINNED7("hash", struct veil_link_way, u32, links_wide, VEIL_LINKS, VEIL_PINS "/links_wide", 0);

BPF_TABLE_PINNED7("lpm_trie", struct veil_route_key, struct veil_route, routes, VEIL_ROUTES, VEIL_PINS "/routes",
		  BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED7("lpm_trie", struct veil_network_key, struct veil_route, networks, VEIL_NETWORKS,
		  VEIL_PINS "/networks", BPF_F_NO_PREALLOC);

/* tag of an accepted knock → jiffies of its arrival */
BPF_TABLE_PINNED7("lru_hash", u64, u64, knock_seen, VEIL_KNOCK_SEEN, VEIL_PINS "/knock_seen", 0);

/* source address of knocks → its bucket, see rate.h */
struct veil_knock_source {
	u8 addr[16];
};
BPF_TABLE_PINNED7("lru_hash", struct veil_knock_source, u64, knock_sources, VEIL_KNOCK_SOURCES, VEIL_PINS "/knock_sources",
		  0);

BPF_TABLE_PINNED7("percpu_array", u32, u64, reasons, VEIL_REASON_MAX, VEIL_PINS "/reasons", 0);

/* bcc can't create a pinned ring buffer, so the loader does, and this declaration opens it */
struct veil_events_table {
	int key;
	int leaf;
	int (*ringbuf_output)(void *, u64, u64);
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_discard)(void *, u64);
	void (*ringbuf_submit)(void *, u64);
	u64 (*ringbuf_query)(u64);
	u32 max_entries;
	int flags;
};
__attribute__((section("maps/ringbuf:" VEIL_PINS "/events"))) struct veil_events_table events = {
	.max_entries = VEIL_EVENT_BYTES / 4096, /* bcc counts pages */
};

#endif

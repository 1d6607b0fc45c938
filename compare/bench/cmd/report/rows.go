package main

import "math"

// row is a line of the table: some work, how it is measured, and how far this
// library has to get.
type row struct {
	work  string
	bench string // benchmark of either library, without the word Benchmark
	limit string // benchmark of the work alone; may be empty
	unit  string // what is compared

	// What is to be reached. Zero means that nothing is asked; a row without any
	// of the first three is there for comparison.
	ratio   float64 // ours / theirs, at most
	atLeast float64 // ours
	atMost  float64 // ours
	allocs  float64 // our allocations an operation, at most; see noAllocs

	time string // -benchtime, if the usual one does not suit
	slow bool   // takes long: once in a quick run
}

// noAllocs is the most that counts as none: the garbage collector and the
// benchmark's own packets and signals show in the average.
const noAllocs = 0.2

const (
	cpu        = "cpu-ns/op"
	allocsUnit = "heap-allocs/op"
	idle       = "idle-cpu-ns/node-s"
	heap       = "heap-B/member"
)

var rows = []row{
	{work: "gossip in, news: plain", bench: "GossipInNews/plain", limit: "LimitGossip/plain", unit: cpu, ratio: 0.10, allocs: 4 + noAllocs},
	{work: "gossip in, news: LZW", bench: "GossipInNews/lzw", limit: "LimitGossip/lzw", unit: cpu, ratio: 0.12, allocs: 4 + noAllocs},
	{work: "gossip in, news: AES", bench: "GossipInNews/aes", limit: "LimitGossip/aes", unit: cpu, ratio: 0.10, allocs: 4 + noAllocs},
	{work: "gossip in, old: plain", bench: "GossipInOld/plain", limit: "LimitGossip/plain", unit: cpu, ratio: 0.05, allocs: noAllocs},
	{work: "gossip in, old: LZW", bench: "GossipInOld/lzw", limit: "LimitGossip/lzw", unit: cpu, ratio: 0.08, allocs: noAllocs},
	{work: "gossip in, old: label + AES + LZW", bench: "GossipInOld/label+aes+lzw", limit: "LimitGossip/lzw", unit: cpu, ratio: 0.08, allocs: noAllocs},
	{work: "user message in: plain", bench: "UserIn/plain", unit: cpu, ratio: 0.2},
	{work: "user message in: LZW", bench: "UserIn/lzw", unit: cpu, ratio: 0.2},
	{work: "open 1.4 KB of AES: one key", bench: "OpenAES/one-key", limit: "LimitOpenAES", unit: cpu, ratio: 0.2},
	{work: "open 1.4 KB of AES: third of three keys", bench: "OpenAES/third-of-three", limit: "LimitOpenAES", unit: cpu, ratio: 0.12},
	{work: "open 1.4 KB of AES and hand it over: one key", bench: "UserInAES/one-key", limit: "LimitOpenAES", unit: cpu},
	{work: "open 1.4 KB of AES and hand it over: third of three keys", bench: "UserInAES/third-of-three", limit: "LimitOpenAES", unit: cpu},
	{work: "ping in, ack out: default (LZW)", bench: "PingIn/lzw", limit: "LimitPingIn", unit: cpu, ratio: 0.02, allocs: 1 + noAllocs},
	{work: "ping in, ack out: plain", bench: "PingIn/plain", limit: "LimitPingIn", unit: cpu, ratio: 0.1, allocs: 1 + noAllocs},
	{work: "ping in, ack out: AES", bench: "PingIn/aes", limit: "LimitPingIn", unit: cpu, ratio: 0.15, allocs: 1 + noAllocs},
	{work: "the same with a packet full of riders: plain", bench: "PingInRiders/plain", unit: cpu, ratio: 0.12},
	{work: "the same with a packet full of riders: LZW", bench: "PingInRiders/lzw", unit: cpu, ratio: 0.12},
	{work: "`Ping` round trip", bench: "Ping", limit: "LimitPing", unit: cpu, ratio: 0.3},
	{work: "push/pull in, 10,000 members: plain", bench: "PushPullIn/plain", limit: "LimitPushPull/plain", unit: cpu, ratio: 0.08, allocs: 500},
	{work: "push/pull in, 10,000 members: meta 100 B + AES", bench: "PushPullIn/meta+aes", limit: "LimitPushPull/meta+aes", unit: cpu, ratio: 0.1, allocs: 500},
	{work: "push/pull in, 10,000 members: meta 100 B + LZW", bench: "PushPullIn/meta+lzw", limit: "LimitPushPull/meta+lzw", unit: cpu, ratio: 0.35, allocs: 500},
	{work: "joining a cluster of 10,000", bench: "Join10k", unit: cpu, ratio: 0.2},
	{work: "queue, 100,000 deep: put", bench: "QueuePut", limit: "LimitQueuePut", unit: cpu, ratio: 0.15},
	{work: "queue, 100,000 deep: get a packet full", bench: "QueueGet", limit: "LimitQueueGet", unit: cpu, ratio: 0.06, allocs: 1 + noAllocs},
	{work: "queue, 8 writers and a reader", bench: "QueueContended", unit: cpu, ratio: 0.1},
	{work: "`Members()`, 10,000", bench: "Members", limit: "LimitMembers", unit: cpu, ratio: 0.8},
	{work: "`NumMembers()`, 10,000", bench: "NumMembers", limit: "LimitNumMembers", unit: cpu, ratio: 0.001},
	{work: "`LocalNode()`", bench: "LocalNode", unit: cpu, ratio: 0.2},
	{work: "heap per known member: no meta", bench: "HeapPerMember/meta-0", limit: "LimitHeapPerMember/meta-0", unit: heap, ratio: 0.65, time: "1x"},
	{work: "heap per known member: meta 64 B", bench: "HeapPerMember/meta-64", limit: "LimitHeapPerMember/meta-64", unit: heap, ratio: 0.65, time: "1x"},
	{work: "UDP on loopback, 512 B: default", bench: "UDP/default", limit: "LimitUDP", unit: cpu, ratio: 0.2},
	{work: "UDP on loopback, 512 B: plain", bench: "UDP/plain", limit: "LimitUDP", unit: cpu, ratio: 0.4},
	{work: "UDP flood, plain: arriving", bench: "UDPFlood", limit: "LimitUDPFlood/single", unit: "arrived/s", atLeast: 100_000, time: "100000x"},
	{work: "UDP flood, plain: lost", bench: "UDPFlood", limit: "LimitUDPFlood/single", unit: "lost-%", atMost: 5, time: "100000x"},
	{work: "`SendReliable`: 1 KiB", bench: "SendReliable/1KiB-default", limit: "LimitTCP/1KiB", unit: cpu, ratio: 0.6},
	{work: "`SendReliable`: 1 MiB, default", bench: "SendReliable/1MiB-default", limit: "LimitTCP/1024KiB", unit: cpu, ratio: 0.5},
	{work: "`SendReliable`: 1 MiB, AES", bench: "SendReliable/1MiB-aes", limit: "LimitTCP/1024KiB", unit: cpu, ratio: 0.4},
	{work: "`SendBestEffort`, 512 B: plain", bench: "SendBestEffort/plain", unit: cpu, ratio: 0.3},
	{work: "`SendBestEffort`, 512 B: LZW", bench: "SendBestEffort/lzw", limit: "LimitSend/lzw", unit: cpu, ratio: 0.13},
	{work: "`SendBestEffort`, 512 B: AES", bench: "SendBestEffort/aes", limit: "LimitSend/aes", unit: cpu, ratio: 0.25},
	{work: "16 nodes on loopback: user broadcasts, per delivery", bench: "UserBroadcasts", unit: cpu, ratio: 0.25, time: "10000x"},
	{work: "64 nodes on loopback: joining", bench: "Cluster64", unit: "joining-cpu-ns", ratio: 0.35, time: "1x", slow: true},
	{work: "64 nodes on loopback: idle, per node and second", bench: "Cluster64", limit: "LimitIdle", unit: idle, ratio: 0.75, time: "1x", slow: true},
	{work: "one node: create and shut down", bench: "Create", unit: cpu, ratio: 0.4},
	{work: "one node: heap", bench: "OneNode", unit: "heap-B/node", ratio: 0.5, time: "1x"},
	{work: "one node: goroutines", bench: "OneNode", unit: "goroutines/node", atMost: 6, time: "1x"},
}

// result is a row with the medians of what was measured; NaN where nothing was.
type result struct {
	row
	theirs, ours, limitValue float64
	theirAllocs, ourAllocs   float64
}

func (r result) ratioOf() float64    { return r.ours / r.theirs }
func (r result) limitOf() float64    { return r.ours / r.limitValue }
func (r result) measured() bool      { return !math.IsNaN(r.ours) && !math.IsNaN(r.theirs) }
func (r result) hasAllocs() bool     { return !math.IsNaN(r.ourAllocs) && !math.IsNaN(r.theirAllocs) }
func (r result) reached() bool       { return r.measured() && r.speedReached() && r.allocsReached() }
func (r row) hasGoal() bool          { return r.ratio > 0 || r.atLeast > 0 || r.atMost > 0 }
func (r result) allocsReached() bool { return r.allocs == 0 || r.ourAllocs <= r.allocs }

func (r result) speedReached() bool {
	switch {
	case r.ratio > 0:
		return r.ratioOf() <= r.ratio
	case r.atLeast > 0:
		return r.ours >= r.atLeast
	}
	return r.ours <= r.atMost
}

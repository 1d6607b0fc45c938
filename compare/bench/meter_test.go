package bench

import (
	"runtime/metrics"
	"testing"
	"time"
)

// meter adds up processor time and allocations of the whole process while it
// runs. Testing's own timer starts with it and goes on throughout: it only
// decides how often a benchmark is repeated.
type meter struct {
	b     *testing.B
	start reading
	spent reading
}

type reading struct {
	cpu     time.Duration
	objects uint64
	bytes   uint64
}

func newMeter(b *testing.B) *meter {
	m := &meter{b: b}
	b.ResetTimer()
	m.resume()
	return m
}

func (m *meter) resume() { m.start = readProcess() }

func (m *meter) pause() {
	now := readProcess()
	m.spent.cpu += now.cpu - m.start.cpu
	m.spent.objects += now.objects - m.start.objects
	m.spent.bytes += now.bytes - m.start.bytes
}

// report pauses, and states what an operation took.
func (m *meter) report(ops int) {
	m.pause()
	n := float64(ops)
	m.b.ReportMetric(float64(m.spent.cpu)/n, "cpu-ns/op")
	// Under the names that testing uses itself it would cut off fractions.
	m.b.ReportMetric(float64(m.spent.objects)/n, "heap-allocs/op")
	m.b.ReportMetric(float64(m.spent.bytes)/n, "heap-B/op")
}

func readProcess() reading {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return reading{cpu: processTime(), objects: s[0].Value.Uint64(), bytes: s[1].Value.Uint64()}
}

package memberlist

import (
	"math"
	"time"
)

// recordRTT takes a round trip time into the member's smoothed one (RFC 6298 §2).
func (m *member) recordRTT(rtt time.Duration) {
	r, file := float64(rtt), m.detectorState()
	file.backoff = 0
	if file.srtt == 0 {
		file.srtt, file.rttvar = r, r/2
		return
	}
	file.rttvar += (math.Abs(r-file.srtt) - file.rttvar) / 4
	file.srtt += (r - file.srtt) / 8
}

// backOffRTT notes an answer whose round trip time is not known, since the ping was
// repeated.
func (m *member) backOffRTT() {
	const most = 3 // from the shortest timeout to the longest
	file := m.detectorState()
	file.backoff = min(file.backoff+1, most)
}

// probeTimeout is how long a direct answer of m may take: ProbeTimeout, or with
// AdaptiveProbeTimeout what its round trips so far suggest (RFC 6298 §2). It is
// doubled while answers come after repeats only, and so cannot be measured (§5.5) (P178).
func probeTimeout(cfg *Config, m *member) time.Duration {
	timeout, past := cfg.ProbeTimeout, m.detectorView()
	if !cfg.AdaptiveProbeTimeout {
		return timeout
	}
	if past.srtt != 0 {
		timeout = time.Duration(past.srtt + 4*past.rttvar)
	}
	return min(max(timeout, cfg.ProbeTimeout/2)<<past.backoff, 4*cfg.ProbeTimeout)
}

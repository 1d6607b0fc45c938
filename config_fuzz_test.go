package memberlist

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// numericFields are the settings of a configuration, and of a part of it, that are
// times, numbers or switches, by name.
func numericFields(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem() // unexported ones too
		switch field.Kind() {
		case reflect.Int, reflect.Int64, reflect.Bool:
			fields[name] = field
		case reflect.Struct:
			for inner, f := range numericFields(field) {
				fields[inner] = f
			}
		}
	}
	for _, other := range []string{"BindPort", "AdvertisePort"} {
		delete(fields, other)
	}
	return fields
}

// setNumber sets a field to a number, or a switch to whether that is odd.
func setNumber(field reflect.Value, n int64) {
	if field.Kind() == reflect.Bool {
		field.SetBool(n&1 != 0)
		return
	}
	field.SetInt(n)
}

// Every time and every number of a configuration has bounds within which nothing
// overflows, one that is added later too (P157).
func TestNumbersOfAConfigAreBounded(t *testing.T) {
	unbounded := map[string]bool{
		"HandoffQueueDepth": true, // only compared
		"UDPBufferSize":     true, // has bounds of its own
	}
	for _, extreme := range []int64{math.MaxInt64, math.MinInt64, -1, 1} {
		cfg := DefaultLANConfig()
		for _, field := range numericFields(reflect.ValueOf(cfg).Elem()) {
			setNumber(field, extreme)
		}
		cfg.UDPBufferSize = 1400
		require.NoError(t, cfg.complete())
		for name, field := range numericFields(reflect.ValueOf(cfg).Elem()) {
			switch {
			case unbounded[name] || field.Kind() == reflect.Bool:
			case field.Type() == reflect.TypeFor[time.Duration]():
				require.GreaterOrEqual(t, field.Int(), int64(0), name)
				require.LessOrEqual(t, field.Int(), int64(longestPeriod), name)
			default:
				require.GreaterOrEqual(t, field.Int(), int64(0), name)
				require.LessOrEqual(t, field.Int(), int64(maxFactor), name)
			}
		}
	}
}

// configFrom changes settings of a configuration as data says: three bytes each for
// which one, and a number between the extremes.
func configFrom(cfg *Config, data []byte) {
	fields := numericFields(reflect.ValueOf(cfg).Elem())
	names := sortedKeys(fields)
	for ; len(data) >= 3; data = data[3:] {
		setNumber(fields[names[int(data[0])%len(names)]], numberFrom(data[1], data[2]))
	}
}

func numberFrom(exponent, mantissa byte) int64 {
	extremes := []int64{math.MaxInt64, math.MinInt64, 0, 1, -1, math.MaxInt32, math.MinInt32}
	if exponent >= 128 {
		return extremes[int(mantissa)%len(extremes)]
	}
	n := int64(mantissa&0x7f) << (exponent % 64)
	if mantissa&0x80 != 0 {
		return -n
	}
	return n
}

// detectionTime is how long a node of this configuration may take to find the only
// other one dead, or 0 if it does not probe or takes its time.
func detectionTime(cfg *Config) time.Duration {
	if cfg.ProbeInterval <= 0 || cfg.ProbeInterval > 10*time.Second || cfg.ProbeTimeout > 10*time.Second {
		return 0
	}
	shortest := suspicionTimeout(cfg.SuspicionMult, 2, cfg.ProbeInterval)
	suspicion := max(shortest, times(shortest, cfg.SuspicionMaxTimeoutMult))
	if suspicion > time.Minute {
		return 0
	}
	// The score may be up when the node dies, which stretches the first round.
	round := times(cfg.ProbeInterval, min(cfg.AwarenessMaxMultiplier, 8))
	return time.Second + 4*round + 8*cfg.ProbeTimeout + 2*suspicion
}

// FuzzConfig makes two nodes of any configuration, which may do what is asked for but
// neither panic nor stand still; and where the times are such that a dead node can be
// found, it is (P157).
func FuzzConfig(f *testing.F) {
	fields := byte(len(numericFields(reflect.ValueOf(DefaultLANConfig()).Elem())))
	f.Add([]byte{})
	for extreme := range byte(7) {
		var all []byte
		for i := range fields {
			f.Add([]byte{i, 128, extreme})
			all = append(all, i, 128, extreme)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inBubble(t, func(t *testing.T) { liveAndDie(t, data) })
	})
}

func liveAndDie(t *testing.T, data []byte) {
	c := newMesh(t)
	var nodes []*Memberlist
	for _, name := range []string{"n1", "n2"} {
		cfg := c.config(name)
		configFrom(cfg, data)
		m, err := Create(cfg)
		if err != nil {
			return // refused explicitly
		}
		defer m.Shutdown()
		nodes = append(nodes, m)
	}
	m, other := nodes[0], nodes[1]
	joined, err := other.Join([]string{"n1/" + m.LocalNode().Address()})
	require.NoError(t, err)
	require.Equal(t, 1, joined)
	time.Sleep(time.Second)
	_ = m.UpdateNode(time.Second)
	_, _ = m.Ping("n2", &MockAddress{addr: "127.0.0.1:2", name: "n2"})
	require.NoError(t, other.Shutdown())
	if limit := detectionTime(m.config); limit > 0 {
		time.Sleep(limit)
		require.Equal(t, 1, m.NumMembers(), "not found dead within %v: %+v", limit, m.config)
	}
	_ = m.Leave(time.Second)
}

func sortedKeys(fields map[string]reflect.Value) []string {
	return slices.Sorted(maps.Keys(fields))
}

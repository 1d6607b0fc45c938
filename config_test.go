package memberlist

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
)

// TestPresets checks P1.
func TestPresets(t *testing.T) {
	hostname, err := os.Hostname()
	require.NoError(t, err)
	ms, s, h := time.Millisecond, time.Second, time.Hour
	table := map[string][3]any{ // LAN, WAN, Local
		"Name":                    {hostname, hostname, hostname},
		"BindAddr":                {"0.0.0.0", "0.0.0.0", "0.0.0.0"},
		"BindPort":                {7946, 7946, 7946},
		"AdvertisePort":           {7946, 7946, 7946},
		"ProtocolVersion":         {uint8(2), uint8(2), uint8(2)},
		"TCPTimeout":              {10 * s, 30 * s, 1 * s},
		"IndirectChecks":          {3, 3, 1},
		"RetransmitMult":          {4, 4, 2},
		"SuspicionMult":           {4, 6, 3},
		"SuspicionMaxTimeoutMult": {6, 6, 6},
		"PushPullInterval":        {30 * s, 60 * s, 15 * s},
		"PushPullNodes":           {1, 1, 1},
		"ProbeInterval":           {1 * s, 5 * s, 1 * s},
		"ProbeTimeout":            {500 * ms, 3 * s, 200 * ms},
		"AwarenessMaxMultiplier":  {8, 8, 8},
		"GossipInterval":          {200 * ms, 500 * ms, 100 * ms},
		"GossipNodes":             {3, 4, 3},
		"GossipToTheDeadTime":     {30 * s, 60 * s, 15 * s},
		"GossipVerifyIncoming":    {true, true, true},
		"GossipVerifyOutgoing":    {true, true, true},
		"EnableCompression":       {true, true, true},
		"DNSConfigPath":           {"/etc/resolv.conf", "/etc/resolv.conf", "/etc/resolv.conf"},
		"HandoffQueueDepth":       {1024, 1024, 1024},
		"UDPBufferSize":           {1400, 1400, 1400},
		"QueueCheckInterval":      {30 * s, 30 * s, 30 * s},
		"ReconnectInterval":       {30 * s, 60 * s, 30 * s},
		"ReconnectTimeout":        {24 * h, 72 * h, 24 * h},
		"RejoinInterval":          {30 * s, 60 * s, 30 * s},
	}
	for i, preset := range []func() *Config{DefaultLANConfig, DefaultWANConfig, DefaultLocalConfig} {
		c := reflect.ValueOf(*preset())
		for j := range c.NumField() {
			name := c.Type().Field(j).Name
			if want, ok := table[name]; ok {
				require.Equal(t, want[i], c.Field(j).Interface(), "preset %d, %s", i, name)
				continue
			}
			require.True(t, c.Field(j).IsZero(), "preset %d, %s is not zero", i, name)
		}
	}
}

// TestPresetsPassValidation checks P1.
func TestPresetsPassValidation(t *testing.T) {
	for _, preset := range []func() *Config{DefaultLANConfig, DefaultWANConfig, DefaultLocalConfig} {
		c := preset()
		require.NoError(t, c.validate())
		require.NoError(t, c.complete())
		require.Equal(t, preset(), c, "a preset leaves nothing to fill in")
		require.NotSame(t, preset(), preset())
	}
}

// The comments of Config are its manual.
func TestEveryConfigFieldIsDocumented(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	require.NoError(t, err)
	fields := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		var doc string
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			if text := field.Doc.Text(); text != "" {
				doc = text
			}
			name := field.Names[0].Name
			require.Contains(t, doc, name, "the comment of the field names it")
			fields++
		}
		return false
	})
	require.Equal(t, reflect.TypeFor[Config]().NumField(), fields)
}

// TestVersionArray checks P2, P4.
func TestVersionArray(t *testing.T) {
	c := DefaultLANConfig()
	require.Equal(t, []byte{1, 5, 2, 0, 0, 0}, c.BuildVsnArray())
	c.ProtocolVersion = 4
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = 7, 9, 8
	require.Equal(t, []byte{1, 5, 4, 7, 9, 8}, c.BuildVsnArray())
}

// TestEncryptionIsOnWithAKeyInTheRing checks P5.
func TestEncryptionIsOnWithAKeyInTheRing(t *testing.T) {
	key := []byte("0123456789abcdef")
	c := DefaultLANConfig()
	require.False(t, c.EncryptionEnabled())
	c.SecretKey = key
	require.False(t, c.EncryptionEnabled(), "the key is not in the ring yet")

	var err error
	c.Keyring, err = NewKeyring(nil, nil)
	require.NoError(t, err)
	require.False(t, c.EncryptionEnabled(), "the ring is empty")
	require.NoError(t, c.Keyring.AddKey(key))
	require.True(t, c.EncryptionEnabled(), "a later AddKey switches it on")
}

// TestAllowedNetworks checks P6.
func TestAllowedNetworks(t *testing.T) {
	networks, err := ParseCIDRs([]string{"10.1.0.0/16", "fd00::/8"})
	require.NoError(t, err)
	for _, test := range []struct {
		networks []net.IPNet
		ip       net.IP
		refused  string
	}{
		{nil, net.ParseIP("1.2.3.4"), ""},
		{nil, nil, ""},
		{[]net.IPNet{}, net.ParseIP("1.2.3.4"), ""},
		{networks, net.ParseIP("10.1.2.3"), ""},
		{networks, net.IP{10, 1, 2, 3}, ""},
		{networks, net.ParseIP("10.2.2.3"), "10.2.2.3 is not allowed"},
		{networks, net.ParseIP("fd12::1"), ""},
		{networks, net.ParseIP("fe80::1"), "fe80::1 is not allowed"},
		{networks, nil, "<nil> is not allowed"},
		{networks, net.IP{1, 2, 3}, "?010203 is not allowed"},
	} {
		c := &Config{CIDRsAllowed: test.networks}
		require.Equal(t, len(test.networks) > 0, c.IPMustBeChecked())
		err := c.IPAllowed(test.ip)
		if test.refused == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, test.refused)
		require.ErrorIs(t, err, ErrRejected)
	}
}

// TestParseCIDRsKeepsTheGoodOnes checks P7.
func TestParseCIDRsKeepsTheGoodOnes(t *testing.T) {
	networks, err := ParseCIDRs([]string{" 10.0.0.0/8 ", "nonsense", "\tfd00::/8\n", "10.0.0.1", "127.0.0.1/8"})
	var wrong *multierror.Error
	require.ErrorAs(t, err, &wrong)
	require.Len(t, wrong.Errors, 2)
	require.EqualError(t, wrong.Errors[0], "invalid cidr: nonsense")
	require.EqualError(t, wrong.Errors[1], "invalid cidr: 10.0.0.1")
	var texts []string
	for _, network := range networks {
		texts = append(texts, network.String())
	}
	require.Equal(t, []string{"10.0.0.0/8", "fd00::/8", "127.0.0.0/8"}, texts)
	_, isMulti := err.(*multierror.Error)
	require.True(t, isMulti, "the type is part of the API")
}

// TestParseCIDRsOfNothingIsEmptyNotNil checks P7.
func TestParseCIDRsOfNothingIsEmptyNotNil(t *testing.T) {
	for _, list := range [][]string{nil, {}, {"nonsense"}} {
		networks, err := ParseCIDRs(list)
		require.NotNil(t, networks)
		require.Empty(t, networks)
		if len(list) == 0 {
			require.True(t, err == nil, "an error interface holding a nil pointer is not nil")
		}
	}
}

// TestValidateReportsTheFirstMistake checks P9.
func TestValidateReportsTheFirstMistake(t *testing.T) {
	broken := func() *Config { // everything wrong
		return &Config{
			ProtocolVersion: 6,
			SecretKey:       []byte("short"),
			LogOutput:       &bytes.Buffer{},
			Logger:          log.Default(),
			Label:           strings.Repeat("x", 256),
			BindPort:        -1,
			AdvertiseAddr:   "10.0.0.1",
			AdvertisePort:   65536,
		}
	}
	c := broken()
	for _, step := range []struct {
		text   string
		kind   error
		repair func()
	}{
		{"protocol version '6' too high. Must be in range: [1, 5]", ErrVersion, func() { c.ProtocolVersion = 0 }},
		{"protocol version '0' too low. Must be in range: [1, 5]", ErrVersion, func() { c.ProtocolVersion = 5 }},
		{"key size must be 16, 24 or 32 bytes", nil, func() { c.SecretKey = make([]byte, 24) }},
		{"cannot specify both LogOutput and Logger; please choose a single log configuration setting", nil, func() { c.Logger = nil }},
		{`could not use "` + strings.Repeat("x", 256) + `" as a label: too long`, ErrTooLarge, func() { c.Label = c.Label[1:] }},
		{"port -1 is not in the range [0, 65535]: change Config.BindPort", nil, func() { c.BindPort = 65536 }},
		{"port 65536 is not in the range [0, 65535]: change Config.BindPort", nil, func() { c.BindPort = 65535 }},
		{"port 65536 is not in the range [0, 65535]: change Config.AdvertisePort", nil, func() { c.AdvertisePort = -1 }},
		{"port -1 is not in the range [0, 65535]: change Config.AdvertisePort", nil, func() { c.AdvertiseAddr = "" }},
	} {
		before := *c
		err := c.validate()
		require.EqualError(t, err, step.text)
		require.Equal(t, before, *c, "validate changes nothing")
		onlyKind(t, step.kind, err)
		step.repair()
	}
	require.NoError(t, c.validate())
}

// A version that nobody writes, or that the node itself does not, cannot be the least (W86).
func TestMinEncryptionVersionIsValidated(t *testing.T) {
	for protocol := uint8(1); protocol <= 5; protocol++ {
		for least := range uint8(3) {
			cfg := DefaultLANConfig()
			cfg.ProtocolVersion, cfg.MinEncryptionVersion = protocol, least
			if least == 0 || least == 1 && protocol > 1 {
				require.NoError(t, cfg.validate())
			} else {
				require.ErrorContains(t, cfg.validate(), "MinEncryptionVersion")
			}
		}
	}
}

// TestSecretKeyMakesTheKeyring checks P8, P9.
func TestSecretKeyMakesTheKeyring(t *testing.T) {
	key := []byte("0123456789abcdef")
	c := &Config{SecretKey: key}
	require.NoError(t, c.complete())
	require.NotNil(t, c.Keyring)
	require.Equal(t, [][]byte{key}, c.Keyring.GetKeys())
	require.True(t, c.EncryptionEnabled())
}

// TestSecretKeyBecomesThePrimaryOfTheKeyring checks P9.
func TestSecretKeyBecomesThePrimaryOfTheKeyring(t *testing.T) {
	old, secret := []byte("old.old.old.old."), []byte("0123456789abcdef")
	ring, err := NewKeyring(nil, old)
	require.NoError(t, err)
	c := &Config{SecretKey: secret, Keyring: ring}
	require.NoError(t, c.complete())
	require.Same(t, ring, c.Keyring, "the caller's ring stays in use")
	require.Equal(t, [][]byte{secret, old}, ring.GetKeys())
}

// TestKeyringAloneIsLeftAsItIs checks P9.
func TestKeyringAloneIsLeftAsItIs(t *testing.T) {
	ring, err := NewKeyring(nil, []byte("old.old.old.old."))
	require.NoError(t, err)
	c := &Config{Keyring: ring}
	require.NoError(t, c.complete())
	require.Same(t, ring, c.Keyring)
	require.Len(t, ring.GetKeys(), 1)

	c = &Config{}
	require.NoError(t, c.complete())
	require.Nil(t, c.Keyring)
}

// TestBadSecretKeyIsAnErrorWithAndWithoutKeyring checks P9.
func TestBadSecretKeyIsAnErrorWithAndWithoutKeyring(t *testing.T) {
	const text = "key size must be 16, 24 or 32 bytes"
	require.EqualError(t, (&Config{SecretKey: []byte("short")}).complete(), text)
	ring, err := NewKeyring(nil, []byte("old.old.old.old."))
	require.NoError(t, err)
	require.EqualError(t, (&Config{SecretKey: []byte("short"), Keyring: ring}).complete(), text)
	require.Len(t, ring.GetKeys(), 1)
}

// TestCompleteFillsInWhatCannotBeZero checks P68.
func TestCompleteFillsInWhatCannotBeZero(t *testing.T) {
	for _, v := range []int{0, -1} {
		c := &Config{
			TCPTimeout: time.Duration(v), UDPBufferSize: v, HandoffQueueDepth: v,
			AwarenessMaxMultiplier: v, PushPullNodes: v,
		}
		require.NoError(t, c.complete())
		require.Equal(t, &Config{
			TCPTimeout: 10 * time.Second, UDPBufferSize: 1400, HandoffQueueDepth: 1024,
			AwarenessMaxMultiplier: 1, PushPullNodes: 1,
		}, c)
	}
	c := &Config{TCPTimeout: 1, UDPBufferSize: 2, HandoffQueueDepth: 3, AwarenessMaxMultiplier: 4, PushPullNodes: 5}
	before := *c
	require.NoError(t, c.complete())
	require.Equal(t, before, *c)
}

// TestLoggersThatGoTogether checks P9.
func TestLoggersThatGoTogether(t *testing.T) {
	for _, c := range []*Config{
		{},
		{LogOutput: &bytes.Buffer{}},
		{Logger: log.Default()},
		{StructuredLogger: slog.Default()},
		{LogOutput: &bytes.Buffer{}, StructuredLogger: slog.Default()},
		{Logger: log.Default(), StructuredLogger: slog.Default()},
	} {
		c.ProtocolVersion = 1
		require.NoError(t, c.validate())
		_, err := newLogger(c)
		require.NoError(t, err)
	}
	_, err := newLogger(&Config{LogOutput: &bytes.Buffer{}, Logger: log.Default()})
	require.True(t, errors.Is(err, errTwoLogOutputs))
}

func TestProtocolVersionConstants(t *testing.T) {
	require.EqualValues(t, 1, ProtocolVersionMin)
	require.EqualValues(t, 2, ProtocolVersion2Compatible)
	require.EqualValues(t, 5, ProtocolVersionMax)
	require.Equal(t, 512, MetaMaxSize)
	require.Equal(t, "uint8", reflect.TypeOf(ProtocolVersionMin).String())
}

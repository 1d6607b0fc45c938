package interop_test

import (
	"github.com/seed-83836a96/memberlist/compare/interop/node"
	"github.com/seed-83836a96/memberlist/compare/interop/ours"
	"github.com/seed-83836a96/memberlist/compare/interop/reference"
)

// The two sides of every pair.
var (
	theirs  node.Library = reference.Library{}
	ourside node.Library = ours.Library{}
)

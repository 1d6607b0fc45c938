package memberlist

// checkVersions refuses version arrays that are too short to be of use, and
// ranges that are none (P93). The reference lets short ones in, and every later
// full exchange fails on them (P121).
func checkVersions(vsn []byte) error {
	if len(vsn) < 6 {
		return newKindError(ErrVersion, "version array has %d bytes, 6 are needed", len(vsn))
	}
	if vsn[0] == 0 || vsn[1] == 0 || vsn[0] > vsn[1] {
		return newKindError(ErrVersion, "protocol versions %v are no range", vsn[:3])
	}
	return nil
}

// versionRange is the interval of versions that a set of nodes understands.
type versionRange struct{ low, high uint8 }

func (r *versionRange) narrow(low, high uint8) {
	r.low, r.high = max(r.low, low), min(r.high, high)
}

// widen takes a version in.
func (r *versionRange) widen(version uint8) {
	r.low, r.high = min(r.low, version), max(r.high, version)
}

func (r versionRange) within(outer versionRange) bool {
	return r.low >= outer.low && r.high <= outer.high
}

func (r versionRange) check(name borrowed, kind string, current uint8) error {
	if current < r.low || current > r.high {
		return newKindError(ErrVersion, "Node '%s' %s version (%d) is incompatible: [%d, %d]",
			name.own(), kind, current, r.low, r.high)
	}
	return nil
}

// checkCompatible judges whether all nodes of both sides can live together: the
// version that each speaks must lie in the range that all who are alive
// understand (P2, P120).
func checkCompatible(remote []pushNodeState, local []nodeRecord) error {
	protocol, user := versionRange{0, 255}, versionRange{0, 255}
	spoken, userSpoken := versionRange{255, 0}, versionRange{255, 0} // nothing yet
	for i := range remote {
		v := remote[i].Vsn
		if remote[i].State == StateAlive && len(v) >= 5 {
			protocol.narrow(v[0], v[1])
			user.narrow(v[3], v[4])
		}
		current, userCurrent := currentVersions(v)
		spoken.widen(current)
		userSpoken.widen(userCurrent)
	}
	for i := range local {
		n := local[i].node
		if n.State == StateAlive {
			protocol.narrow(n.PMin, n.PMax)
			user.narrow(n.DMin, n.DMax)
		}
		spoken.widen(n.PCur)
		userSpoken.widen(n.DCur)
	}
	if spoken.within(protocol) && userSpoken.within(user) {
		return nil
	}
	return findIncompatible(remote, local, protocol, user)
}

// findIncompatible names the first node that speaks what not all understand.
func findIncompatible(remote []pushNodeState, local []nodeRecord, protocol, user versionRange) error {
	for i := range remote {
		current, userCurrent := currentVersions(remote[i].Vsn)
		if err := checkSpoken(remote[i].Name, protocol, user, current, userCurrent); err != nil {
			return err
		}
	}
	for i := range local {
		n := local[i].node
		if err := checkSpoken(borrow(n.Name), protocol, user, n.PCur, n.DCur); err != nil {
			return err
		}
	}
	return nil
}

func checkSpoken(name borrowed, protocol, user versionRange, current, userCurrent uint8) error {
	if err := protocol.check(name, "protocol", current); err != nil {
		return err
	}
	return user.check(name, "delegate protocol", userCurrent)
}

// currentVersions are the versions that a node speaks; 0 if it does not say (W67).
func currentVersions(vsn []byte) (protocol, user uint8) {
	if len(vsn) < 6 {
		return 0, 0
	}
	return vsn[2], vsn[5]
}

// nodeRecord is what a full exchange and Snapshot read of a member.
type nodeRecord struct {
	node        *Node
	incarnation uint32
}

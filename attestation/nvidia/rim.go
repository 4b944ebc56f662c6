package nvidia

// RIM is a parsed reference integrity manifest. It is immutable and may be
// shared.
type RIM struct {
	Product string // "GH100", "GB100", "LS10"
	Edition string // "GPU" or "SWITCH"
	Version string // of the driver ("550.144.03") or VBIOS ("96.00.5E.00.01")
	TagID   string
	Golden  []Golden // active measurements, by ascending index
}

// Golden is one active reference measurement.
type Golden struct {
	Index  int // SPDM block Index+1
	Name   string
	Values [][]byte // any of them
}

// Mismatch is one golden measurement that the report does not match.
type Mismatch struct {
	Index  int    // golden index; SPDM block Index+1
	Source string // "driver" or "vbios"
	Name   string
	Want   []string // hexadecimal, any of them
	Got    string   // hexadecimal; empty when the report has no such block
}

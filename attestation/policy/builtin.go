package policy

import _ "embed"

//go:embed genuine.json
var genuine string

//go:embed strict.json
var strict string

//go:embed cocoon-like.json
var cocoonLike string

//go:embed example.json
var example string

//go:embed registry.json
var fromRegistry string

// builtin holds the documents by name.
var builtin = map[string]string{"genuine": genuine, "strict": strict, "cocoon-like": cocoonLike, "example": example, "registry": fromRegistry}

// Builtin lists the names of the built-in policies.
func Builtin() []string { return []string{"genuine", "strict", "cocoon-like", "example", "registry"} }

// Document returns the document of a built-in policy, to use or to start from; ok is false when there is none of that name.
func Document(name string) (document []byte, ok bool) {
	d, ok := builtin[name]
	return []byte(d), ok
}

// Genuine returns the policy "genuine": hardware that its makers vouch for under their production roots, closed to its host, and
// any guest on it. It is the first question of whoever looks at evidence, of whatever age: Intel's TCB status must be UpToDate by
// the collateral given, AMD's reports are not compared with any floor, and there is none for drivers and firmware of devices, whose
// RIMs are required. It is not a policy to send a prompt under.
func Genuine() *Policy { return mustParse(genuine) }

// Strict returns the policy "strict": genuine, closed, up-to-date hardware under the makers' production roots, and any guest on
// it, since only its user can say which guests to trust. Its numbers, as of November 2026:
//
// Intel, min_evaluation_data_number 19 and min_date 2025-05-14. What Intel signs today about a platform depends on the TCB
// recovery that one asks for: under number 17 a platform still counts as UpToDate that misses every fix since March 2024, and a
// host that serves collateral would choose it. Intel's service gives out a recovery by default twelve months after it was
// disclosed; in August 2026 that was 20 (2025-08-12) in TCB info and 19 (2025-05-13) in QE identities. 19 is the highest number
// that both had.
//
// AMD publishes no statuses, so the floors are the security patch levels (SPL) of its bulletins, the microcode's by stepping
// because steppings do not share a numbering:
//   - Genoa B1 (191101): SNP 27, against AMD-SB-3020 (RMP initialization, "RMPocalypse") and AMD-SB-3016; microcode 86 (0x56),
//     against AMD-SB-3027 ("StackWarp") and, from 84 on, AMD-SB-3019 (microcode signatures, "EntrySign").
//   - Genoa-X B2 (191102): the same with microcode 81 (0x51).
//   - Bergamo and Siena A2 (19a002): SNP 27; microcode 27, what genuine machines report with SEV firmware 1.55.49, the one that
//     AMD-SB-3020 asks for.
//   - Turin C1 (1a0201): SNP 4 (AMD-SB-3020), microcode 81 (AMD-SB-3027).
//   - Boot loader, TEE and FMC are what genuine machines report at these levels.
//   - Milan is refused at every level. Whoever owns a Milan machine can run code of his own on its secure processor and, because
//     the fuse controller leaves the root of trust writable, take the seed of which the keys of every TCB version derive
//     (Shen and Qin, "Insecure Despite Proven Updated", arXiv 2605.12990, May 2026). No report of such a machine says anything, and
//     in a network of strangers' machines the owner is the adversary. Those who trust the owner, such as a cloud, add a floor:
//     AMD-SB-3030 asks for SNP 29, AMD-SB-3027 for microcode 222 (190101) or 71 (190102).
//
// Some of AMD's fixes show in no patch level but in the mitigation vectors of version 5 reports, or nowhere (AMD-SB-3034). None is
// asked for: that would refuse all firmware that writes older reports. A policy of your own can, in require_mitigations.
//
// NVIDIA: drivers from 535.86.09, the first for confidential computing on Hopper, and VBIOS 96.00.5E, its first release; what is
// newer than that is proved by its RIM, which is required, as is an OCSP answer.
func Strict() *Policy { return mustParse(strict) }

// CocoonLike returns the policy "cocoon-like", an example of how Cocoon judges: TDX with an out-of-date TCB tolerated for a while,
// measured images by name, no GPU evidence, no nonce. Its image is that of a public test quote: replace it.
func CocoonLike() *Policy { return mustParse(cocoonLike) }

// Example returns the policy "example": strict about everything, the guest included, of which it names none that exists. It refuses
// every node until its placeholders are replaced.
func Example() *Policy { return mustParse(example) }

func mustParse(document string) *Policy {
	p, err := Parse([]byte(document))
	if err != nil {
		panic(err) // a constant, and tested
	}
	return p
}

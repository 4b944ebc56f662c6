// Package attestation appraises what confidential hardware says about itself (RATS, RFC 9334): given Evidence, an Appraisal
// Policy and Endorsements it returns a [Result] whose numbered checks say why to believe the Evidence, or why not.
//
//	pol, err := policy.Parse(policyJSON)              // what is good enough, and whose roots count
//	bundle, err := collateral.Parse(bundleJSON)       // what the makers publish; from anybody
//	v, err := attestation.NewVerifier(pol, bundle)
//	r := v.Appraise(time.Now(), evidence, nonce)      // evidence answers our own nonce
//	if err := r.Err(); err != nil {
//		return err                                // names the checks that failed
//	}
//	use(r.Keyset, r.ValidUntil)
//
// Evidence is a composite document ([Evidence]): a TDX quote or SEV-SNP report, the SPDM reports of the GPUs and switches
// beside it, and the keys that all of them together vouch for. [Statement], [DeviceNonce] and [ReportData] are how the parts
// are bound to one another and to the nonce. [Verifier.AppraiseSaved] takes bare quotes and reports and the documents of some
// other networks as well.
//
// Three things are kept apart. The rooms dcap, snp, nvidia and eventlog read formats, verify signatures and report statuses.
// Package policy decides what is good enough. This package brings the two together and binds the parts.
//
// # What a verified Result does not say
//
// GPU evidence proves that a genuine GPU answered this confidential VM's statement, not that it is plugged into the same
// machine. Whoever holds the machine can attack its memory bus; the policy's hardware lists are what stands against that.
// An enclave's clock belongs to its host, so nothing here rests on it: the nonce says how fresh the Evidence is.
//
// The package is pure Go, works offline, keeps no state but bounded caches, and builds for js/wasm.
package attestation

// Package snp appraises AMD SEV-SNP attestation reports, offline and in pure Go.
//
// A report is parsed with [ParseReport]; the certificate of the key that signed it (VCEK or VLEK), AMD's intermediate (ASK or
// ASVK) and AMD's revocation lists go into a [Collateral]; a [Verifier] built on the caller's trust anchors then appraises one
// against the other at one instant:
//
//	v, err := snp.NewVerifier(snp.AMDRoots()...)
//	report, err := snp.ParseReport(raw)
//	res, err := v.Verify(time.Now(), report, collateral)
//
// Every [Check] of [Result.Checks] is a fact with a stable identifier: it passed, it failed, or it was skipped because
// something was missing. Verify returns an error unless every check passed, and goes on after a failure wherever later checks
// still mean something. What the report says about the guest (debugging, VMPL, measurement, minimum TCB) is exposed and not
// judged: that is for the caller's policy.
//
// The package does no input or output, keeps no global state and never consults the machine's clock or certificate store.
//
// Formats: SEV Secure Nested Paging Firmware ABI Specification (AMD 56860), called "ABI" in [Check.Clause]; Versioned Chip
// Endorsement Key (VCEK) Certificate and KDS Interface Specification (AMD 57230), called "KDS".
package snp

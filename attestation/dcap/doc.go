// Package dcap appraises Intel SGX and TDX quotes made with ECDSA P-256 (DCAP), offline and in pure Go.
//
// A quote is parsed with [ParseQuote]; the endorsements that Intel publishes for it (TCB info, QE identity, certificate
// revocation lists) are parsed into a [Collateral]; a [Verifier] built on the caller's trust anchors then appraises one
// against the other at one instant:
//
//	v, err := dcap.NewVerifier(dcap.IntelRoot())
//	q, err := dcap.ParseQuote(raw)
//	res, err := v.Verify(time.Now(), q, collateral)
//
// [Verifier.VerifyWith] asks for the collateral by what the quote says about its platform, and starts verifying meanwhile.
//
// Three things are kept apart.
//
//   - Checks. Every [Check] of [Result.Checks] is a fact with a stable identifier: it passed, it failed, or it was
//     skipped because something was missing. Verify returns an error unless every check passed, and goes on after a failure
//     wherever later checks still mean something, so that the result always says as much as can be said.
//   - Status. [Result.Status] is Intel's word for the platform ("UpToDate", "OutOfDate", ...), found by the convergence of
//     Intel's Quote Verification Library over platform, TDX module and Quoting Enclave. It is reported, not judged: a nil
//     error together with "OutOfDate" or "Revoked" means that the evidence is genuine and says just that.
//   - Policy. Which statuses, advisories, attributes (debug!) and measurements are acceptable is for the caller to decide.
//
// The package does no input or output, keeps no global state and never consults the machine's clock or certificate store.
//
// Formats: Intel TDX DCAP Quoting Library API (quote formats 4 and 5), Intel SGX ECDSA Quote Library Reference (format 3),
// Intel SGX PCK Certificate and CRL Profile Specification, Intel SGX and TDX Provisioning Certification Service API v4.
// The numbers "QVL x.y" in [Check.Clause] are those of the checks in Intel's open-source Quote Verification Library.
package dcap

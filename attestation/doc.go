// Package attestation appraises what confidential hardware says about itself (RATS, RFC 9334): it takes Evidence, an
// Appraisal Policy and Endorsements, and returns a Result whose numbered checks say why to believe the Evidence or not.
// It is pure Go, works offline, and builds for js/wasm.
package attestation

// Package p384 verifies ECDSA P-384 signatures (FIPS 186-5, 6.4.2), as AMD's and NVIDIA's reports bear, in the fastest way that
// the platform offers. Everything in a verification is public, so it need not take constant time.
package p384

// Size is the length of a coordinate, a scalar and a SHA-384 digest, in bytes.
const Size = 48

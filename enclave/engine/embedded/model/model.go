// Package model holds Bombyx Tiny, the model that ships with Bombyx, so that a fresh clone can answer without a download.
//
// It is a demonstration: two million parameters that know about Bombyx, some capitals and small tricks, and say "I don't
// know that." to the rest. README.md is its model card, with what was measured.
package model

import (
	_ "embed"
	"slices"
)

// Name is the model's id in requests.
const Name = "bombyx-tiny"

// SHA256 is the digest of what [GGUF] returns, in hex.
const SHA256 = "596102306ae912ada21154b189bb41235bdd7c5d3de82e6f445b70cf0144803f"

//go:embed bombyx-tiny-q8_0.gguf
var gguf []byte

// GGUF returns a copy of the model: a GGUF version 3 file of the llama architecture in Q8_0.
func GGUF() []byte { return slices.Clone(gguf) }

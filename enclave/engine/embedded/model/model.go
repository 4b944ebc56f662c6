// Package model holds Bombyx Tiny, the model that ships with Bombyx, so that a fresh clone can answer without a download.
//
// It is a demonstration: two million parameters that know about Bombyx, some capitals and small tricks, and say "I don't
// know that." to the rest. README.md is its model card, with what was measured.
package model

import (
	_ "embed"
	"slices"
)

// Name is the model's own name (general.name), by which requests call it unless the engine is told otherwise.
const Name = "bombyx-tiny"

// SHA256 is the digest of what [GGUF] returns, in hex.
const SHA256 = "1c76e6c69164af0347c26ebd6c3a9c110ede1567d6826baaaafea1c7726c639c"

//go:embed bombyx-tiny-q8_0.gguf
var gguf []byte

// GGUF returns a copy of the model: a GGUF version 3 file of the llama architecture in Q8_0.
func GGUF() []byte { return slices.Clone(gguf) }

// Package tongo holds tests of the local network (package devnet) against tongo, a library for TON that shares no code with the
// one that the network stands on: tongo's client reads the network and sends to it, and the C++ TVM that tongo bundles executes
// every transaction of a chain with a history (package history) again and must come to the same hash.
//
// It is a module of its own, so that nothing else depends on cgo or on a shared library. It needs gcc, and Linux on x86-64 or macOS.
package tongo

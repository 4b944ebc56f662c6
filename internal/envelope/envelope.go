// Package envelope is the sealed path between client and enclave: chunked Oblivious HTTP
// (draft-ietf-ohai-chunked-ohttp-08, with the encapsulation of RFC 9458) around Binary HTTP (RFC 9292), with HPKE (RFC
// 9180) under X-Wing, HKDF-SHA256 and AES-256-GCM or ChaCha20-Poly1305. Whoever carries the bytes sees ciphertext, its size
// and its times.
//
// A client makes a [Sender] from the [KeyConfig] that it found in appraised Evidence:
//
//	sealed, opener, err := sender.Seal(req)   // any http.Request
//	post, err := http.NewRequestWithContext(ctx, "POST", relayURL, nil)
//	sealed.Apply(post)
//	res, err := http.DefaultClient.Do(post)   // status 200 and ResponseMediaType, or it was never opened
//	resp, err := opener.Open(res.Body, nil)   // a http.Response that streams
//
// An enclave makes a [KeyPair], a [ReplayGuard] and a [Receiver]:
//
//	req, sealer, err := receiver.Open(r.Context(), r.Body)
//	w.Header().Set("Content-Type", envelope.ResponseMediaType)
//	w.Header().Set("Incremental", "?1")       // relays must not buffer
//	rw := sealer.Respond(w, http.NewResponseController(w).Flush)
//	handler.ServeHTTP(rw, req)
//	err = rw.Close()                          // only if all went well
//
// A net/http server that speaks HTTP/1 stops reading the request when the response starts, unless
// http.ResponseController.EnableFullDuplex has been called; with HTTP/2 there is no such thing.
//
// # What holds
//
// Content, header fields, method, path and status are secret and cannot be altered, reordered, cut or swapped between
// exchanges: each chunk authenticates under its place in the stream, and the last one as the last. A stream that stops
// early is an error at the other end ([ErrTruncated]), never a short message. Only who holds the enclave's key can answer.
// An enclave accepts a request once ([ReplayGuard]).
//
// # What shows
//
// The key that a request is sealed to; the size of the request up to [PaddedLen]; the size of each flushed chunk up to
// [ResponseWriter.Bucket], their number and their times; the size of an answer that was never flushed up to [PaddedLen].
// Informational responses and flushes of a few bytes are not hidden, and no timing is.
//
// Forward secrecy comes from rotating the enclave's key, not from the exchange: who gets the private key can read what was
// sealed to it. Nothing here tells the enclave who the client is.
package envelope

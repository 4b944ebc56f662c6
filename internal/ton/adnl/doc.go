// Package adnl carries a byte stream over ADNL on TCP, and finds the host at
// the other end by its ADNL id in TON's DHT: no DNS, no certificate authority.
// docs/protocol.md, "ADNL", has the bytes.
//
// The packets are those that liteservers speak. A stream is a sequence of
// adnl.message.custom, and a [net.Conn] here, so that HTTP/2 runs over it as
// over TLS and brings what packets lack: many requests at once, flow control,
// cancellation. The client authenticates with tcp.authentificate, whose nonce
// of the server's is the only thing in ADNL that makes a session fresh: without
// it a recorded connection, sent again, would get other answers under the same
// key stream.
//
// What ADNL gives is that the other end holds the key behind the id, and
// secrecy and integrity on the wire as long as nobody holds that key: it has no
// forward secrecy, and is not post-quantum. Requests and answers are sealed
// before they get here, to the enclave, and rest on none of it.
package adnl

package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// The crash test of a fleet: three processes with an enclave each, over one
// PostgreSQL, behind a balancer that knows little of them. What is new are
// processes that stop without a word, as on a machine that is paused, and go on
// when others have taken their enclaves, or have given them up and serve their
// channels.

const killHosts = 3

// stop stops a host for a while. Either nobody takes notice, or it is started
// again elsewhere, and the one that was stopped comes late.
func (k *killer) stop(m *member) {
	if !k.wait("the hosts to serve", k.serving) {
		return
	}
	stopped := m.process
	stopped.Process.Signal(syscall.SIGSTOP)
	defer stopped.Process.Signal(syscall.SIGCONT)
	if k.rng.IntN(2) == 0 {
		k.count["stopped"]++
		k.moment(2 * time.Second)
		return
	}
	k.count["taken over"]++
	defer kill(stopped)
	m.address = unusedAddress(k.t)
	k.front.moved(m)
	k.startHost(m)
	k.moment(k.startup)
	if !k.wait("a host to take over", func() bool { k.endOrphans(); return k.serving() }) {
		return
	}
	k.moment(500 * time.Millisecond)
	stopped.Process.Signal(syscall.SIGCONT)
	if k.wait("the host that was taken over to end", func() bool {
		select {
		case <-stopped.ended:
			return true
		default:
			return false
		}
	}) && stopped.err == nil {
		k.fault("a host that was taken over ended well")
	}
}

// miss stops a host, and lets time pass until others may serve its channels,
// though they cannot ask its enclave. It goes on then. What it had running when it
// was stopped may be unpaid, as long as nobody books it (docs/operating.md, Fleet).
func (k *killer) miss(m *member, all []*killChannel) {
	if !k.wait("the hosts to serve", k.serving) {
		return
	}
	k.count["missed"]++
	m.process.Process.Signal(syscall.SIGSTOP)
	defer m.process.Process.Signal(syscall.SIGCONT)
	k.tap.mu.Lock()
	for _, c := range all {
		k.tap.risk[c.name] = killWindow
	}
	k.tap.mu.Unlock()
	time.Sleep(2 * orphaned)
	const step = 50 // seconds: less than a lease, which the others renew meanwhile
	for passed := 0; passed < 300; passed += step {
		k.endOrphans()
		k.clock.add(step * time.Second)
		if _, err := k.books.db.Exec(`UPDATE owners SET alive = alive - $1`, step); err != nil {
			k.t.Fatal(err)
		}
		if !k.wait("the others to say that they live", func() bool {
			k.endOrphans()
			var silent int
			err := k.books.db.QueryRow(`SELECT COUNT(*) FROM owners WHERE enclave <> $1 AND alive < EXTRACT(EPOCH FROM clock_timestamp()) - $2`, m.name, step/2).Scan(&silent)
			return err == nil && silent == 0
		}) {
			return
		}
	}
	k.moment(3 * time.Second)
	m.process.Process.Signal(syscall.SIGCONT)
	k.moment(2 * time.Second)
	k.check(all)
}

// endOrphans ends what a stopped host has under way in the database, as
// PostgreSQL does by itself after five seconds.
func (k *killer) endOrphans() {
	k.books.db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND EXTRACT(EPOCH FROM clock_timestamp() - state_change) > $1`, orphaned.Seconds())
}

const orphaned = 500 * time.Millisecond

// A front is a balancer of connections: to the host that it prefers, if that
// one listens, now and then to another.
type front struct {
	net.Listener

	mu        sync.Mutex
	rng       *rand.Rand
	addresses map[string]string // by host
	order     []string          // hosts
	conns     []net.Conn
}

func newFront(t *testing.T, hosts []*member) *front {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &front{Listener: l, rng: rand.New(rand.NewPCG(1, 2)), addresses: map[string]string{}}
	for _, m := range hosts {
		f.moved(m)
		f.order = append(f.order, m.name)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

// moved tells where a host listens from now on.
func (f *front) moved(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses[m.name] = m.address
}

// shift sometimes prefers another host, with or without an end to connections.
func (f *front) shift(rng *rand.Rand) {
	if rng.IntN(8) > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rng.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] })
	if rng.IntN(2) == 0 {
		for _, c := range f.conns {
			c.Close()
		}
	}
}

func (f *front) serve(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	f.conns = append(f.conns, c)
	order := slices.Clone(f.order)
	if f.rng.IntN(20) == 0 {
		f.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	for i, name := range order {
		order[i] = f.addresses[name]
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conns = slices.DeleteFunc(f.conns, func(old net.Conn) bool { return old == c })
	}()
	for _, address := range order {
		up, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		defer up.Close()
		go func() { io.Copy(up, c); up.Close() }()
		io.Copy(c, up)
		return
	}
}

// A warp is the clock of all ledgers of a test. Time passes on it, and sometimes
// more. It lies in a file that all processes have in memory.
type warp struct {
	path string
	mem  []byte
}

func newWarp(t *testing.T, path string) *warp {
	if err := os.WriteFile(path, binary.NativeEndian.AppendUint64(nil, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openWarp(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(w.mem) })
	return w
}

func openWarp(path string) (*warp, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return &warp{path, mem}, err
}

func (w *warp) ahead() *atomic.Int64 { return (*atomic.Int64)(unsafe.Pointer(&w.mem[0])) }

func (w *warp) add(d time.Duration) { w.ahead().Add(int64(d)) }

func (w *warp) now() time.Time { return time.Now().Add(time.Duration(w.ahead().Load())) }

// warpedClock is a host's.
func warpedClock(path string) func() time.Time {
	w, err := openWarp(path)
	if err != nil {
		panic(err)
	}
	return w.now
}

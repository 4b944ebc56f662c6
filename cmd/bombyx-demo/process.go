package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/internal/cli"
)

// A process is one party, as a user would run it.
type process struct {
	name  string
	cmd   *exec.Cmd
	lines chan string // of its standard output
	ended chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs a program that lies beside this one.
func (d *demo) start(ctx context.Context, name, program string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(path); err != nil {
		return nil, cli.Errorf(cli.Usage, "run make build, or make demo", "%s is not beside this program", program)
	}
	p := &process{name: name, cmd: exec.Command(path, args...), lines: make(chan string, 100), ended: make(chan struct{})}
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	d.procs = append(d.procs, p)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default:
				fmt.Fprintln(p, s.Text())
			}
		}
		p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// line returns the next line of standard output.
func (p *process) line(ctx context.Context) (string, error) {
	select {
	case s := <-p.lines:
		return s, nil
	case <-p.ended:
		select {
		case s := <-p.lines:
			return s, nil
		default:
			return "", fmt.Errorf("%s ended early", p.name)
		}
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for %s: %w", p.name, ctx.Err())
	}
}

// Write keeps the log, the last of it.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.Len() > 64<<10 {
		p.log.Reset()
	}
	return p.log.Write(b)
}

func (p *process) showLog(w io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.Len() > 0 {
		fmt.Fprintf(w, "--- log of the %s ---\n%s", p.name, p.log.Bytes())
	}
}

func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.ended
	}
}

// until polls for something that another process brings about.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	var last error
	for {
		done, err := ok()
		if done && err == nil {
			return nil
		}
		last = err
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(ctx.Err(), last))
		}
	}
}

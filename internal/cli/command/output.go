package command

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/internal/cli"
)

// width is what help texts are wrapped to, in columns.
const width = 80

// usage is cobra's, with the descriptions of flags wrapped. A template could do
// that, too, but would link text/template, and the linker then keeps every
// exported method of the program: 3 MB more, most of it resident.
func usage(c *cobra.Command) error {
	var b strings.Builder
	out := c.OutOrStderr()
	c.SetOut(&b)
	err := new(cobra.Command).UsageFunc()(c)
	c.SetOut(out)
	text := b.String()
	for _, f := range []interface{ FlagUsagesWrapped(int) string }{c.LocalFlags(), c.InheritedFlags()} {
		if long := strings.TrimSpace(f.FlagUsagesWrapped(0)); long != "" {
			text = strings.Replace(text, long, strings.TrimSpace(f.FlagUsagesWrapped(width)), 1)
		}
	}
	_, werr := io.WriteString(out, text)
	return errors.Join(err, werr)
}

// fill wraps the descriptions of a command and of those below it. Lines that begin with a space stay as they are, and their
// neighbours with them.
func fill(c *cobra.Command) {
	paragraphs := strings.Split(c.Long, "\n\n")
	for i, p := range paragraphs {
		if strings.Contains("\n"+p, "\n ") {
			continue
		}
		var b strings.Builder
		column := 0
		for _, word := range strings.Fields(p) {
			n := utf8.RuneCountInString(word)
			switch {
			case column == 0:
			case column+1+n > width:
				b.WriteByte('\n')
				column = 0
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += n
		}
		paragraphs[i] = b.String()
	}
	c.Long = strings.Join(paragraphs, "\n\n")
	for _, sub := range c.Commands() {
		fill(sub)
	}
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// An output keeps its first error, and on a terminal shows only what is
// printable.
type output struct {
	w      io.Writer
	screen bool
	rest   []byte // of a character that is not complete
	err    error
	unread func() // called once nobody reads
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.write(p)
	if o.err = err; errors.Is(err, syscall.EPIPE) {
		o.unread()
	}
	return n, err
}

func (o *output) write(p []byte) (int, error) {
	if !o.screen {
		return o.w.Write(p)
	}
	b := append(o.rest, p...)
	end := len(b)
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if utf8.RuneStart(b[len(b)-back]) {
			if !utf8.FullRune(b[len(b)-back:]) {
				end -= back
			}
			break
		}
	}
	if _, err := io.WriteString(o.w, cli.Printable(string(b[:end]))); err != nil {
		return 0, err
	}
	o.rest = append([]byte(nil), b[end:]...)
	return len(p), nil
}

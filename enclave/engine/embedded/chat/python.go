package chat

import (
	"errors"
	"strings"
	"unicode"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// list is a sequence whose negative indices count from the end, as in Python: gonja's own finds no [-1] in a list of one.
type list []any

// GetItem implements [exec.ItemGetter].
func (l list) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(l[i]), true
}

// methods has those methods of strings that do what they do in Python. Of gonja's own, the ones written out here do not:
// lstrip() and replace() refuse their usual arguments, and split() splits once less than it is told.
var methods = func() exec.Methods {
	str := map[string]exec.Method[string]{
		"strip":  trimmer(strings.TrimFunc),
		"lstrip": trimmer(strings.TrimLeftFunc),
		"rstrip": trimmer(strings.TrimRightFunc),
		"split": func(s string, _ *exec.Value, args *exec.VarArgs) (any, error) {
			var sep *string
			most := -1
			if err := args.Take(exec.KeywordArgument("sep", exec.AsValue(nil), optional(&sep)), exec.KeywordArgument("maxsplit", exec.AsValue(-1), exec.IntArgument(&most))); err != nil {
				return nil, exec.ErrInvalidCall(err)
			}
			var parts []string
			switch {
			case sep == nil && most < 0:
				parts = strings.Fields(s)
			case sep == nil || *sep == "":
				return nil, exec.ErrInvalidCall(errors.New("split takes a separator that is not empty"))
			case most < 0:
				parts = strings.Split(s, *sep)
			default:
				parts = strings.SplitN(s, *sep, most+1)
			}
			out := make(list, len(parts))
			for i, p := range parts {
				out[i] = p
			}
			return out, nil
		},
		"replace": func(s string, _ *exec.Value, args *exec.VarArgs) (any, error) {
			var old, with string
			most := -1
			if err := args.Take(exec.PositionalArgument("old", nil, exec.StringArgument(&old)), exec.PositionalArgument("new", nil, exec.StringArgument(&with)),
				exec.KeywordArgument("count", exec.AsValue(-1), exec.IntArgument(&most))); err != nil {
				return nil, exec.ErrInvalidCall(err)
			}
			return strings.Replace(s, old, with, most), nil
		},
	}
	for _, name := range []string{"capitalize", "endswith", "find", "format", "isdigit", "join", "lower", "startswith", "title", "upper"} {
		str[name], _ = builtins.Methods.Str.Get(name)
	}
	m := builtins.Methods
	m.Str = exec.NewMethodSet(str)
	return m
}()

// trimmer makes strip, lstrip or rstrip of what trims the characters of which a function says so.
func trimmer(trim func(string, func(rune) bool) string) exec.Method[string] {
	return func(s string, _ *exec.Value, args *exec.VarArgs) (any, error) {
		var chars *string
		if err := args.Take(exec.KeywordArgument("chars", exec.AsValue(nil), optional(&chars))); err != nil {
			return nil, exec.ErrInvalidCall(err)
		}
		if chars == nil {
			return trim(s, unicode.IsSpace), nil
		}
		return trim(s, func(r rune) bool { return strings.ContainsRune(*chars, r) }), nil
	}
}

// optional takes a string or none.
func optional(to **string) func(*exec.Value) error {
	return func(v *exec.Value) error {
		if v.IsNil() {
			return nil
		}
		*to = new(string)
		return exec.StringArgument(*to)(v)
	}
}

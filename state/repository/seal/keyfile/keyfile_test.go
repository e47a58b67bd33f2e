package keyfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
)

func key(t *testing.T, kind string) (path, public, secret string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), kind+".key")
	public, err := Generate(path, kind, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return path, public, lines[len(lines)-1]
}

func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil { // #nosec: it has to be run
		t.Fatal(err)
	}
	return []string{path, "an argument; with $HOME"}
}

// TestRing reads keys from where a configuration may name them.
func TestRing(t *testing.T) {
	reader, public, secret := key(t, Reader)
	_, quantum, _ := key(t, PostQuantum)
	writer, id, _ := key(t, Writer)
	phrase := filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Ring(t.Context(), &hclspec.Encryption{
		DataRecipients: []string{public, quantum, "passphrase"}, MetaRecipients: []string{public}, TrustedWriters: []string{id}, SigningKey: writer,
		IdentityFiles: []string{reader}, IdentityCommand: script(t, `[ "$1" = 'an argument; with $HOME' ] && echo `+secret), PassphraseFile: phrase,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Data) != 3 || len(k.Meta) != 1 || len(k.Opens) != 3 || k.Writer == nil || k.AnyWriter {
		t.Errorf("%d readers of data, %d of metadata, %d identities", len(k.Data), len(k.Meta), len(k.Opens))
	}
	if k, err := Ring(t.Context(), nil); k != nil || err != nil {
		t.Errorf("no block: %v, %v", k, err)
	}
}

// TestRefused: what cannot be used is refused with a code and a hint, and nothing of a secret is shown.
func TestRefused(t *testing.T) {
	reader, public, secret := key(t, Reader)
	writer, id, signs := key(t, Writer)
	_, other, _ := key(t, Writer)
	open := filepath.Join(t.TempDir(), "open.key")
	if err := os.WriteFile(open, []byte(secret), 0o640); err != nil { // #nosec: that it can be read is the point
		t.Fatal(err)
	}
	base := hclspec.Encryption{DataRecipients: []string{public}, TrustedWriters: []string{id}, IdentityFiles: []string{reader}}
	for name, x := range map[string]struct {
		change func(*hclspec.Encryption)
		code   state.Code
		says   string
	}{
		"others can read it":        {func(e *hclspec.Encryption) { e.IdentityFiles = []string{open} }, state.CodePermission, "its mode is 0640"},
		"no such file":              {func(e *hclspec.Encryption) { e.IdentityFiles = []string{"/nonexistent/key"} }, state.CodeNoKey, "cannot be read"},
		"a directory":               {func(e *hclspec.Encryption) { e.IdentityFiles = []string{filepath.Dir(reader)} }, state.CodeNoKey, "no regular file"},
		"a writer key for a reader": {func(e *hclspec.Encryption) { e.IdentityFiles = []string{writer} }, state.CodeNoKey, "identities of age"},
		"a reader for a writer key": {func(e *hclspec.Encryption) { e.SigningKey = reader }, state.CodeNoKey, "writer key"},
		"an untrusted writer key":   {func(e *hclspec.Encryption) { e.SigningKey, e.TrustedWriters = writer, []string{other} }, state.CodeNoKey, "not among trusted_writers"},
		"a command that fails": {func(e *hclspec.Encryption) {
			e.IdentityCommand = script(t, "echo "+secret+"; echo "+secret+" >&2; exit 3")
		}, state.CodeNoKey, "exit status 3"},
		"a command that talks":  {func(e *hclspec.Encryption) { e.IdentityCommand = script(t, "echo "+secret+" "+secret) }, state.CodeNoKey, "something else than identities"},
		"a command without end": {func(e *hclspec.Encryption) { e.IdentityCommand = script(t, "exec yes "+secret) }, state.CodeNoKey, "prints too much"},
		"an empty passphrase":   {func(e *hclspec.Encryption) { e.PassphraseCommand = script(t, "echo") }, state.CodeNoKey, "empty"},
	} {
		e := base
		x.change(&e)
		_, err := Ring(t.Context(), &e)
		if state.CodeOf(err) != x.code || !strings.Contains(fmt.Sprint(err), x.says) || state.HintOf(err) == "" {
			t.Errorf("%s: [%s] %v", name, state.CodeOf(err), err)
		}
		for _, s := range []string{secret[16:], signs[24:]} {
			if strings.Contains(fmt.Sprintf("%+v %s", err, state.HintOf(err)), s) {
				t.Errorf("%s: the error shows a secret", name)
			}
		}
	}
}

// TestGenerate: a key file is for its owner alone, and is never written over.
func TestGenerate(t *testing.T) {
	path, _, secret := key(t, Reader)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Generate(path, Writer, time.Now()); err == nil || state.HintOf(err) == "" {
		t.Errorf("written over: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), secret) {
		t.Errorf("the key is gone: %v", err)
	}
}

// TestPipe: a pipe that nobody writes is refused, and not waited for.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Secret(path); state.CodeOf(err) != state.CodeNoKey {
		t.Errorf("a pipe: %v", err)
	}
}

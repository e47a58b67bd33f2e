package keyfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pgkeep/pgkeep/hclspec"
	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/seal"
)

const (
	// maxSecret bounds a file with a secret, and what a command prints.
	maxSecret = 64 << 10
	// commandTime bounds a command.
	commandTime = time.Minute
)

// Ring reads the keys of one repository as its encryption block names them; nil for nil: nothing is encrypted. Without trusted writers every
// signature is believed, which no configuration can say: it is for a recovery where none survived. The error has CodeNoKey or CodePermission
// and shows nothing of what was read.
func Ring(ctx context.Context, e *hclspec.Encryption) (*seal.Keyring, error) {
	if e == nil {
		return nil, nil
	}
	k := &seal.Keyring{AnyWriter: len(e.TrustedWriters) == 0}
	for _, w := range e.TrustedWriters {
		id, err := seal.ParseWriterID(w)
		if err != nil {
			return nil, noKey("the trusted writer cannot be used", err)
		}
		k.Trusted = append(k.Trusted, id)
	}
	if err := identities(ctx, e, k); err != nil {
		return nil, err
	}
	phrase, err := passphrase(ctx, e, k)
	if err != nil {
		return nil, err
	}
	if k.Data, err = recipients(e.DataRecipients, phrase); err != nil {
		return nil, err
	}
	if k.Meta, err = recipients(e.MetaRecipients, phrase); err != nil {
		return nil, err
	}
	return k, writer(e, k)
}

// identities reads what opens keys.
func identities(ctx context.Context, e *hclspec.Encryption, k *seal.Keyring) error {
	add := func(what string, b []byte) error {
		ids, err := seal.ParseIdentities(b)
		if err != nil {
			return noKey(what+" cannot be used", err)
		}
		k.Opens = append(k.Opens, ids...)
		return nil
	}
	for _, path := range e.IdentityFiles {
		b, err := Secret(path)
		if err == nil {
			err = add("the identity file "+path, b)
		}
		if err != nil {
			return err
		}
	}
	if len(e.IdentityCommand) == 0 {
		return nil
	}
	b, err := run(ctx, "identity_command", e.IdentityCommand)
	if err == nil {
		err = add("what identity_command ("+e.IdentityCommand[0]+") prints", b)
	}
	return err
}

// passphrase gives the recipient that the passphrase is; nil: there is none.
func passphrase(ctx context.Context, e *hclspec.Encryption, k *seal.Keyring) (*seal.Recipient, error) {
	var b []byte
	var err error
	switch {
	case e.PassphraseFile != "":
		b, err = Secret(e.PassphraseFile)
	case len(e.PassphraseCommand) > 0:
		b, err = run(ctx, "passphrase_command", e.PassphraseCommand)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	r, opens, err := seal.WithPassphrase(strings.TrimSuffix(line, "\r"))
	if err != nil {
		return nil, noKey("the passphrase cannot be used", err)
	}
	k.Opens = append(k.Opens, opens)
	return &r, nil
}

func recipients(names []string, phrase *seal.Recipient) ([]seal.Recipient, error) {
	var out []seal.Recipient
	for _, name := range names {
		if name == seal.Passphrase && phrase != nil {
			out = append(out, *phrase)
			continue
		}
		r, err := seal.ParseRecipient(name)
		if err != nil {
			return nil, noKey("the recipient cannot be used", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// writer reads the signing key. One that readers of this configuration would not believe is refused before it signs anything.
func writer(e *hclspec.Encryption, k *seal.Keyring) error {
	if e.SigningKey == "" {
		return nil
	}
	b, err := Secret(e.SigningKey)
	if err != nil {
		return err
	}
	w, err := seal.ParseWriterKey(b)
	if err != nil {
		return noKey("the signing key "+e.SigningKey+" cannot be used", err)
	}
	for _, t := range k.Trusted {
		if t == w.ID() {
			k.Writer = w
			return nil
		}
	}
	return &state.Error{
		Code: state.CodeNoKey, Text: fmt.Sprintf("the signing key %s is that of %s, which is not among trusted_writers: nobody would believe what it signs", e.SigningKey, w.ID()),
		Hint: fmt.Sprintf("add %q to trusted_writers, here and wherever the repository is read", string(w.ID())),
	}
}

// Secret reads a file that its owner alone can read.
func Secret(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // #nosec: the configuration names it; a pipe that nobody writes is not waited for
	if err != nil {
		return nil, unread(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unread(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, unread(path, errors.New("it is no regular file"))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &state.Error{
			Code: state.CodePermission, Text: fmt.Sprintf("%s holds a secret, and others than its owner can read it: its mode is %04o", path, mode),
			Hint: "chmod 0600 " + path + ", and replace the key if anybody else may have read it",
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = fmt.Errorf("it is longer than %d bytes", maxSecret)
	}
	if err != nil {
		return nil, unread(path, err)
	}
	return b, nil
}

func unread(path string, err error) error {
	code := state.CodeNoKey
	if errors.Is(err, os.ErrPermission) {
		code = state.CodePermission
	}
	return &state.Error{Code: code, Text: "the key file " + path + " cannot be read", Hint: "pgkeep key generate makes one; the encryption block of the repository names it", Err: err}
}

func noKey(text string, err error) error {
	return &state.Error{Code: state.CodeNoKey, Text: text, Hint: "look at the encryption block of the repository", Err: err}
}

// bounded takes so many bytes and refuses more.
type bounded struct {
	all  bytes.Buffer // not embedded: its ReadFrom would take everything
	left int
	stop context.CancelCauseFunc // ends the program
}

var errTooMuch = errors.New("it prints too much")

// Write is io.Writer's.
func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.stop(errTooMuch)
		return 0, errTooMuch
	}
	b.left -= len(p)
	return b.all.Write(p)
}

// run gives what a command prints. What it writes to standard error is dropped: it may hold what it was asked for.
func run(ctx context.Context, what string, argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("it did not end within %s", commandTime))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) // #nosec: the configuration names it, and no shell reads it
	out := &bounded{left: maxSecret, stop: stop}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, &state.Error{
			Code: state.CodeNoKey, Text: fmt.Sprintf("%s (%s) gave no key", what, argv[0]), Err: err,
			Hint: "run it as the user who runs pgkeep and look at what it complains of; it must print the key and nothing else, and end with 0",
		}
	}
	return out.all.Bytes(), nil
}

package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// firstTries bounds the tries at a provider that has never answered: a wrong address must be said while somebody waits.
const firstTries = 3

// retry calls try until it succeeds, fails for good, or patience ends.
func (s *Store) retry(ctx context.Context, try func(context.Context) error) error {
	tries := 0
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		tries++
		err := try(ctx)
		if err == nil || answered(err) {
			s.reached.Store(true)
		}
		if err == nil || !s.transient(ctx, err) || tries >= firstTries && !s.reached.Load() {
			return struct{}{}, permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(s.pauses()), backoff.WithMaxElapsedTime(s.patience.Total))
	var p *backoff.PermanentError
	if errors.As(err, &p) {
		err = p.Unwrap()
	}
	return s.explain(ctx, err)
}

func permanent(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

func (s *Store) pauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = s.patience.First, s.patience.Longest, 2, 0.5
	return b
}

// answered tells whether an error is the provider's own word.
func answered(err error) bool {
	return errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrRetained)
}

func (s *Store) transient(ctx context.Context, err error) bool {
	var trouble *store.Trouble
	var body *bodyError
	switch {
	case ctx.Err() != nil, answered(err), errors.As(err, &body), errors.As(err, &trouble) && trouble.Kind != store.Unreachable:
		return false
	case untrusted(err) != nil:
		return false
	}
	return broken(err) || s.b.Transient(err)
}

// broken tells whether a connection was refused, cut or silent, or an answer cut short.
func broken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// untrusted finds the certificate's fault in a failed connection.
func untrusted(err error) error {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return authority
	case errors.As(err, &host):
		return host
	case errors.As(err, &invalid):
		return invalid
	}
	return nil
}

// explain says what an operator can do about a failure of the connection. Other errors stay as they are.
func (s *Store) explain(ctx context.Context, err error) error {
	var trouble *store.Trouble
	var network net.Error
	switch {
	case err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case errors.As(err, &trouble):
		return err
	case untrusted(err) != nil:
		return &store.Trouble{
			Kind: store.Insecure, Text: "the certificate of " + s.b.Place() + " cannot be trusted",
			Hint: "name its authority in ?ca_file=/path/ca.pem, and the host as the certificate has it in ?endpoint=", Err: err,
		}
	case errors.As(err, &network):
		return &store.Trouble{
			Kind: store.Unreachable, Text: s.b.Place() + " cannot be reached",
			Hint: "look at the address in the URL, the name service, proxies and firewalls; what failed is tried again", Err: err,
		}
	}
	return err
}

// pause is used where retries are counted by progress and not by calls.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

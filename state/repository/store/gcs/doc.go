// Package gcs keeps a repository in a bucket of Google Cloud Storage.
//
// It speaks the JSON API itself, over the standard library and golang.org/x/oauth2/google: five requests are all that a
// store of immutable objects needs. Measured in the linked program, that adds 0.2 MB; google.golang.org/api/storage/v1
// would add 11 MB and cloud.google.com/go/storage 30 MB, with gRPC and retries of its own that hide a lost answer.
//
// Every object is one "multipart" upload: a description and the bytes in one request, never a resumable session, with
// ifGenerationMatch=0, so that of two writers one wins, and with its MD5 and CRC32C, which the service compares before the object
// exists. The token of a put is kept as metadata, so that a put whose answer was lost is known again. The service says of a
// missing object and of a missing bucket the same; then the bucket is asked for a list. Credentials come from where Google's
// own programs take them.
package gcs

// Package webhook posts a TAM's events to the URLs that operators name, signed, again until they were
// taken, and never to an address inside of the operator's own network.
//
//	sender := webhook.NewSender(webhook.Config{Store: store})
//	go sender.Run(ctx)
//
// A receiver checks what arrives:
//
//	events, err := webhook.Verify(secret, r.Header, body, time.Now())
//
// The format is that of Standard Webhooks: the headers webhook-id, webhook-timestamp and webhook-signature,
// whose signature is an HMAC-SHA256 over "id.timestamp.body". What was not answered with 2xx is sent again,
// with growing pauses, by any replica, for as long as the TAM keeps its history; so a receiver may see an
// event twice, and knows it by its position.
package webhook

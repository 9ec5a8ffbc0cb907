"""One expert applied to the tokens routed to it, and a whole decode step: natively where built, by torch where not."""

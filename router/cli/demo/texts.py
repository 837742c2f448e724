"""What the demo's callers write about. Made up; names no living person and no real firm."""

from __future__ import annotations

SUPPORT = (
    "Where is my parcel? I ordered {thing} on {day} and have heard nothing since.",
    "The {thing} I received is broken. How do I send it back?",
    "Can I change the delivery address of order {number}?",
    "My invoice for order {number} shows {euros} euros, but I paid less. Please explain the difference.",
    "If nobody answers by {day}, my lawyer will. Order {number} never came.",
    "I want to cancel my subscription before {day}.",
    "Wo bleibt mein Paket? Ich habe {thing} am {day} bestellt und seitdem nichts gehört.",
    "Die Rechnung zur Bestellung {number} ist falsch. Bitte schicken Sie mir eine neue.",
    "Bonjour, où est mon colis ? La commande {number} devait arriver {day}.",
    "Le produit reçu ne fonctionne pas. Comment puis-je me faire rembourser ?",
    "¿Dónde está mi pedido {number}? Pagué {euros} euros y no ha llegado nada.",
    "Quiero devolver un artículo. ¿Quién paga los gastos de envío?",
    "Buongiorno, non ho ancora ricevuto l'ordine {number}. Potete aiutarmi?",
    "Olá, a minha encomenda {number} chegou danificada. O que devo fazer?",
    "Waar blijft mijn bestelling {number}? Hij zou {day} komen.",
    "Dzień dobry, gdzie jest moja paczka? Numer zamówienia {number}.",
    "Hej, var är mitt paket? Ordernumret är {number}.",
    "Merhaba, {number} numaralı siparişim nerede?",  # noqa: RUF001 - Turkish
    "注文番号{number}の荷物がまだ届きません。いつ届きますか。",
    "您好,订单{number}的包裹到哪里了?我已经付了{euros}欧元。",
    "주문번호 {number} 배송이 언제 도착하나요?",
    "مرحبا، أين طلبي رقم {number}؟ لم يصل حتى الآن.",
    "नमस्ते, मेरा ऑर्डर {number} अभी तक नहीं आया है। कृपया बताइए कि वह कहाँ है।",
)
THINGS = ("a kettle", "two lamps", "a rucksack", "a bicycle pump", "a set of knives", "a camping stove")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")

PLAIN = (
    "What is the capital of {place}?",
    "Suggest three names for a café in {place}.",
    "Rewrite this more politely: send me the report by {day}.",
    "How do I get a red wine stain out of a white shirt?",
    "Translate into Spanish: the meeting has been moved to {day}.",
    "Give me a packing list for two days in {place} in November.",
    "What does 'force majeure' mean, in one sentence?",
    "Was ist der Unterschied zwischen Wetter und Klima?",
    "Propose un titre pour un article sur les trains de nuit vers {place}.",
    "¿Qué puedo cocinar con arroz, huevos y tomates?",
    "明日の会議の議題を三つ提案してください。",
)
HARD = (
    "Prove that there are infinitely many primes of the form 4k + 3. Explain each step and justify why it holds.",
    (
        "Design a strategy for moving a payment system of {number} merchants to a new database without any outage. "
        "Compare at least three approaches, evaluate their trade-offs, and derive the order of steps. Ensure that each "
        "step can be undone, and explain why."
    ),
    (
        "Solve the equation x^3 - 6x + 4 = 0 exactly, then prove that you have found every root, and compute the "
        "probability that a root chosen at random is negative."
    ),
    (
        "Analyse why the bridge at {place} failed: first list the loads, then derive the bending moment in each "
        "member, and finally evaluate which assumption of the design must have been wrong. Justify every step."
    ),
)
PLACES = ("Lisbon", "Riga", "Trieste", "Ghent", "Tallinn", "Bergen", "Porto", "Graz")

SENTENCES = (
    "The committee met on {day} to consider the report on the harbour at {place}.",
    "Its chair noted that costs had risen by {number} euros since the last estimate.",
    "Two members asked whether the northern quay could stay open during the works.",
    "The engineer replied that it could, provided that no ship over eighty metres used it.",
    "A letter from the fishermen's association was read and placed on file.",
    "It was agreed to seek a second opinion on the state of the piles.",
    "The survey of the sea bed had found clay where the plans showed rock.",
    "Residents of {place} complained of noise before seven in the morning.",
    "The contractor offered to begin an hour later on Saturdays.",
    "No decision was taken on the lighthouse, whose owner could not be reached.",
    "The treasurer reported that {number} euros of the grant remained unspent.",
    "A storm on {day} had damaged the temporary fence and one of the cranes.",
    "Nobody was hurt, and work began again the next morning.",
    "The insurance would pay for the crane but not for the delay.",
    "Members thanked the harbour master for keeping the ferry to {place} running.",
    "The next meeting would take place after the spring tides.",
)
GERMAN_SENTENCES = (
    "Der Ausschuss trat am Dienstag zusammen, um über den Hafen zu beraten.",
    "Die Kosten sind seit der letzten Schätzung um {number} Euro gestiegen.",
    "Die Anwohner beschwerten sich über den Lärm am frühen Morgen.",
    "Der Bauleiter versprach, samstags eine Stunde später anzufangen.",
    "Über den Leuchtturm wurde nicht entschieden, weil der Eigentümer nicht zu erreichen war.",
    "Die Versicherung zahlt den Kran, nicht aber die Verzögerung.",
)

INVOICES = (
    (
        "Invoice {number}\nHarbour Supplies, {place}\n3 coils of rope at 41.50 EUR\n1 anchor at {euros}.00 EUR\n"
        "Payable within 14 days."
    ),
    (
        "Subject: order {number}\nPlease deliver {thing} to our office in {place} by {day}. "
        "We will pay {euros} EUR on receipt."
    ),
    "Rechnung {number}\nTischlerei am Markt, {place}\n12 Stühle zu je {euros},00 EUR\nZahlbar bis Freitag.",
    "Facture n° {number}\nLibrairie du Port, {place}\nTotal : {euros},00 EUR TTC\nÉchéance : 30 jours.",
)

CODE_EASY = (
    "What does this do?\n```python\nprint(sum(x * x for x in range({small})))\n```",
    "Write a shell command that counts the lines of every .txt file in a folder.",
    "Rename the variable `a` to `total` in this: `a = price * {small}`",
    "Which HTTP status says that a request was created?",
)
CODE_HARD = (
    (
        "Implement a lock-free queue with a bounded size of {small} in C++. Explain its memory ordering step by step, "
        "prove that no element is lost, and analyse the complexity of each operation.\n"
        "```cpp\nclass Queue {{ std::atomic<int> head; std::atomic<int> tail; }};\n```"
    ),
    (
        "Refactor this so that it must run in O(n log n) and without recursion. Justify why it is correct, then write "
        "unit tests for every branch.\n```python\ndef f(xs):\n    if len(xs) < 2:\n        return xs\n"
        "    return f([x for x in xs[1:] if x < xs[0]]) + [xs[0]] + f([x for x in xs[1:] if x >= xs[0]])\n```"
    ),
    (
        "Debug this query and design an index for it. Explain the trade-offs.\n```sql\nSELECT c.name, SUM(o.total) "
        "FROM customers c JOIN orders o ON o.customer = c.id WHERE o.day > '{number}' GROUP BY c.id\n```"
    ),
)

LEGAL = (
    (
        "Draft a limitation of liability clause for a supply contract under English law. The cap must be {euros},000 "
        "euros, and it must not exclude liability for fraud."
    ),
    "Draft a confidentiality clause that binds both parties for {small} years and survives termination.",
    "Entwirf eine Kündigungsklausel für einen Mietvertrag über Büroräume in {place}.",
    "Rédige une clause de force majeure pour un contrat de transport maritime.",
    "A short covering letter to the court in {place}, please.",
    "A brief letter that thanks the notary for the deed of {day}.",
)

SYSTEM = (
    "You are a helpful assistant. Answer briefly.",
    (
        "You answer customers of an online shop. Be kind and exact. Never promise a date that you do not know. Refunds "
        "take five working days; parcels take three. If a customer is angry, apologise once and offer a next step."
    ),
)
